//! The program as a user runs it: what it prints where, and how it ends.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::process::{Command, Output};

const TRANSPORTS: [&str; 2] = ["mmio", "pci"];
const RINGS: [&str; 2] = ["split", "packed"];

fn vioduct(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vioduct")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = vioduct(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One cost of a lab's report, by the way it was done and a field's name.
fn cost(report: &Value, way: &str, field: &str) -> u64 {
    let ways = report["cost"]["ways"].as_array().unwrap();
    let row = ways.iter().find(|row| row["way"].as_str().unwrap().contains(way)).unwrap();
    row[field].as_u64().unwrap()
}

#[test]
fn every_lab_goes_well_on_both_transports_and_rings() {
    for transport in TRANSPORTS {
        for ring in RINGS {
            let reports = json(&["lab", "run", "all", "--transport", transport, "--ring", ring, "--json"]);
            let names: Vec<&str> =
                reports.as_array().unwrap().iter().map(|report| report["lab"].as_str().unwrap()).collect();
            assert_eq!(
                names,
                [
                    "pci-demo",
                    "virtio-demo",
                    "vhost-demo",
                    "virtio-test-factorial",
                    "virtio-test-echo",
                    "framework"
                ]
            );
            for report in reports.as_array().unwrap() {
                assert_eq!(report["ok"], true, "{report}");
                assert_eq!(report["on"], "loopback");
                assert!(report["steps"].as_array().unwrap().len() >= 4, "{report}");
                if report["lab"] != "pci-demo" {
                    assert_eq!((&report["transport"], &report["ring"]), (&transport.into(), &ring.into()));
                }
            }
        }
    }
}

#[test]
fn the_costs_make_the_point_of_the_labs() {
    for ring in RINGS {
        let reports = json(&["lab", "run", "virtio-demo", "--ring", ring, "--json"]);
        let report = &reports[0];
        let of = |way: &str, field: &str| cost(report, way, field);
        assert_eq!(of("emulated PCI", "register_writes"), 10_000, "a trap for each access");
        assert_eq!(of("batches of 1", "doorbells"), 10_000);
        // 156 batches of 64, and one of the 16 that are left.
        assert_eq!(of("batches of 64", "doorbells"), 157, "a doorbell for each batch");
        assert_eq!(of("batches of 64", "interrupts"), 157);
        assert_eq!(of("batches of 64", "register_reads"), 0, "MSI-X needs no acknowledgement");
        assert_eq!(of("batches of 64", "bytes_moved"), 160_000);
        assert!(of("batches of 64", "median_ns") > 0);
        assert!(of("batches of 64", "p99_ns") >= of("batches of 64", "median_ns"));
    }
}

#[test]
fn a_transcript_says_what_was_sent_and_what_came_back() {
    let text = stdout(&vioduct(&["lab", "run", "all"]));
    for line in [
        "write 0x1333",
        "read = 0x1333",
        "read = 0x3333",
        "12! = 479001600",
        "13! = 1932053504 (mod 2^32)",
        "34! = 0 (mod 2^32)",
        "device received 10 11 12 13 \"hello back end!\"",
        "came back: 111, 112, 113",
        "so the machine serves the device itself: read = 0x1333",
        "the second look finds G (Pending)",
    ] {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
}

#[test]
fn what_is_unknown_is_a_usage_error_that_names_the_nearest() {
    for (arguments, hint) in [
        (&["lab", "run", "virtio-dmo"][..], "Did you mean `virtio-demo`?"),
        (&["lab", "run", "all", "--ring", "pakced"][..], "packed"),
        (&["lab", "run", "all", "--on", "loopbakc"][..], "loopback"),
        (&["docter"][..], "doctor"),
        (&["device", "lst"][..], "list"),
    ] {
        let output = vioduct(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: errors go to stderr");
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn what_keeps_a_guest_from_running_is_the_same_line_in_the_sandbox() {
    let run = |sandbox| vioduct(&["run", "--kernel", "/no/such/kernel", "--sandbox", sandbox]);
    let (inside, outside) = (run("on"), run("off"));
    assert_eq!(inside.status.code(), Some(1), "{}", stderr(&inside));
    let lines = |output: &Output| stderr(output).lines().map(str::to_owned).collect::<Vec<_>>();
    let [line] = &lines(&outside)[..] else { panic!("{}", stderr(&outside)) };
    // The line before it says that there is no Landlock, where there is none.
    assert_eq!(lines(&inside).last(), Some(line));
}

#[test]
fn a_lab_of_one_machine_says_so_on_others() {
    for on in ["loopback", "qemu"] {
        let output = vioduct(&["lab", "run", "vhost-net", "--on", on]);
        assert_eq!(output.status.code(), Some(2), "{on}");
        let said = stderr(&output);
        assert!(said.lines().count() == 1 && said.contains("runs on kvm"), "{on}: {said}");
    }
}

#[test]
fn lists_are_for_people_and_for_machines() {
    assert!(stdout(&vioduct(&["lab", "list"])).lines().any(|line| line.starts_with("framework ")));
    let labs = json(&["lab", "list", "--json"]);
    assert_eq!(labs[0]["lab"], "pci-demo");
    assert!(stdout(&vioduct(&["device", "list"])).lines().any(|line| line.starts_with("entropy ")));
    let devices = json(&["device", "list", "--json"]);
    let names: Vec<&str> =
        devices.as_array().unwrap().iter().map(|device| device["name"].as_str().unwrap()).collect();
    let expected = ["block", "console", "entropy", "net", "pci-demo", "virtio-demo", "virtio-test", "vsock"];
    assert_eq!(names, expected);
}

#[test]
fn the_doctor_has_a_line_for_each_thing_and_a_remedy_for_what_is_missing() {
    let findings = json(&["doctor", "--json"]);
    let names: Vec<&str> =
        findings.as_array().unwrap().iter().map(|finding| finding["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "loopback",
            "kvm",
            "vhost-net",
            "vhost-vsock",
            "vhost-demo",
            "tun",
            "vduse",
            "guest-kit",
            "qemu",
            "huge-pages",
            "sandbox"
        ]
    );
    for finding in findings.as_array().unwrap() {
        assert_eq!(finding["state"] == "ok", finding["remedy"].is_null(), "{finding}");
    }
    assert_eq!(stdout(&vioduct(&["doctor"])).lines().count(), names.len());
}

/// Where KVM runs guests there is nothing to refuse: the tests on an emulated host run them.
#[test]
fn a_host_without_kvm_is_told_what_to_do_instead() {
    let findings = json(&["doctor", "--json"]);
    let is_usable = |found: &Value| found["name"] == "kvm" && found["state"] == "ok";
    let usable = findings.as_array().unwrap().iter().any(is_usable);
    let output = vioduct(&["run", "--kernel", "/nonexistent/kernel"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let hint = if usable { "/nonexistent/kernel" } else { "cargo xtask rig kvm" };
    assert!(stderr(&output).contains(hint), "{}", stderr(&output));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vioduct"))
        .args(["lab", "run", "all"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stderr(&output);
    assert!(text.contains("cannot write to stdout") && !text.contains("panicked"), "{text}");
}
