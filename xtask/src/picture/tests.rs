use serde_json::json;

use super::*;

fn report(paths: usize) -> Value {
    let way = |path: &paths::Path| {
        json!({"way": format!("one, {}", path.way), "register_reads": 19, "register_writes": 35,
               "operations": 1000, "median_ns": 451_187, "host_instructions_per_operation": 20_123})
    };
    let ways: Vec<Value> = PATHS[..paths].iter().map(way).collect();
    json!([{"lab": "pci-demo"}, {"lab": "vhost-demo", "on": "kvm", "cost": {"ways": ways}}])
}

#[test]
fn every_path_is_drawn_with_its_figures() {
    let svg = drawing::of(&figures(&report(PATHS.len())).unwrap());
    let steps: usize = PATHS.iter().map(|path| path.steps.len()).sum();
    assert_eq!(svg.matches("class=\"step\"").count(), steps);
    assert_eq!(svg.matches("traps per operation: 0.05").count(), PATHS.len());
    assert_eq!(svg.matches("host instructions per operation: 20123").count(), PATHS.len());
    assert_eq!(svg.matches("median: 451 µs").count(), PATHS.len());
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for element in ["text", "style", "defs", "marker", "title"] {
        let opened =
            svg.matches(&format!("<{element} ")).count() + svg.matches(&format!("<{element}>")).count();
        assert_eq!(opened, svg.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn instructions_that_nobody_has_counted_are_left_out() {
    let mut report = report(PATHS.len());
    for way in report[1]["cost"]["ways"].as_array_mut().unwrap() {
        way["host_instructions_per_operation"] = Value::Null;
    }
    let svg = drawing::of(&figures(&report).unwrap());
    assert!(!svg.contains("instructions") && svg.contains("median: 451 µs"));
}

#[test]
fn a_report_of_less_is_refused() {
    for (report, why) in [
        (report(4), "nothing is served in the host's kernel"),
        (json!({}), "no list of labs"),
        (json!([{"lab": "vhost-demo", "on": "uml"}]), "was run on \"uml\""),
    ] {
        let error = figures(&report).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
