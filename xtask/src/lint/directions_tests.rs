use super::layers::{LAYERS, Panics, StandardLibrary};
use super::*;

/// Every place that the table knows, a family by one of its crates.
const PLACES: &[&str] = &[
    "crates/spec",
    "crates/virtqueue",
    "crates/virtio-driver",
    "crates/pci",
    "crates/virtio-device",
    "crates/devices/entropy",
    "crates/virtio-mmio",
    "crates/virtio-pci",
    "crates/vhost-kernel",
    "crates/vhost-user",
    "crates/vduse",
    "crates/vfio-user",
    "crates/pci-devices/pci-demo",
    "crates/machine",
    "crates/loopback",
    "crates/cli",
    "bench",
    "xtask",
];

fn name(place: &str) -> &str {
    place.rsplit('/').next().unwrap()
}

/// A workspace of all places, in which the crate in `place` has one dependency.
fn problems(place: &str, dependency: &str, kind: Option<&str>) -> Vec<String> {
    let package = |at: &&str| {
        let dependencies = if *at == place {
            serde_json::json!([{ "name": dependency, "kind": kind }])
        } else {
            serde_json::json!([])
        };
        serde_json::json!({
            "name": name(at),
            "manifest_path": format!("/w/{at}/Cargo.toml"),
            "description": null,
            "license": null,
            "dependencies": dependencies,
            "targets": [],
        })
    };
    let packages: Vec<_> =
        PLACES.iter().chain((!PLACES.contains(&place)).then_some(&place)).map(package).collect();
    let json =
        serde_json::json!({ "workspace_root": "/w", "target_directory": "/w/target", "packages": packages });
    let workspace: Workspace = serde_json::from_value(json).unwrap();
    judge(&workspace).into_iter().map(|finding| finding.problem).collect()
}

#[test]
fn the_driver_and_the_device_side_never_name_each_other() {
    for kind in [None, Some("dev"), Some("build")] {
        assert_eq!(problems("crates/virtio-driver", "virtio-device", kind).len(), 1, "{kind:?}");
        assert_eq!(problems("crates/virtio-device", "virtio-driver", kind).len(), 1, "{kind:?}");
    }
}

#[test]
fn only_loopback_the_program_and_the_benchmarks_see_both_sides() {
    let sees = |place: &&&str| {
        problems(place, "virtio-driver", None).is_empty() && problems(place, "virtio-device", None).is_empty()
    };
    let both: Vec<_> = PLACES.iter().filter(sees).copied().collect();
    assert_eq!(both, ["crates/loopback", "crates/cli", "bench"]);
}

#[test]
fn devices_know_the_seam_and_the_specification_and_nothing_else() {
    for allowed in ["virtio-device", "spec"] {
        assert!(problems("crates/devices/entropy", allowed, None).is_empty(), "{allowed}");
    }
    for refused in ["virtqueue", "virtio-mmio", "virtio-pci", "pci", "loopback"] {
        assert_eq!(
            problems("crates/devices/entropy", refused, None),
            [format!("must not depend on `{refused}`")]
        );
    }
    assert!(problems("crates/devices/entropy", "loopback", Some("dev")).is_empty());
    assert!(problems("crates/pci-devices/pci-demo", "pci", None).is_empty());
    assert_eq!(problems("crates/pci-devices/pci-demo", "virtio-pci", None).len(), 1);
}

#[test]
fn freestanding_crates_have_foreign_dependencies_in_tests_only() {
    for place in ["crates/spec", "crates/virtqueue", "crates/virtio-driver"] {
        assert_eq!(problems(place, "bitflags", None).len(), 1, "{place}");
        assert_eq!(problems(place, "cc", Some("build")).len(), 1, "{place}");
        assert!(problems(place, "proptest", Some("dev")).is_empty(), "{place}");
    }
    assert!(problems("crates/pci", "thiserror", None).is_empty());
}

#[test]
fn peers_live_in_the_benchmarks_only() {
    for peer in PEERS {
        assert!(problems("bench", peer, None).is_empty());
        for kind in [None, Some("dev")] {
            assert_eq!(
                problems("crates/loopback", peer, kind),
                [format!("`{peer}` is a peer: only bench/ may use it")]
            );
        }
    }
}

#[test]
fn an_unknown_crate_is_told_where_to_add_itself() {
    let expected = ["this crate has no row in xtask/src/lint/layers.rs: add one"];
    assert_eq!(problems("crates/novel", "spec", None), expected);
}

#[test]
fn a_crate_may_depend_on_itself_in_tests() {
    assert!(problems("crates/virtqueue", "virtqueue", Some("dev")).is_empty());
}

#[test]
fn every_place_has_one_row_and_dependencies_point_at_earlier_rows() {
    for place in PLACES {
        assert_eq!(LAYERS.iter().filter(|layer| layers::matches(layer.folder, place)).count(), 1, "{place}");
    }
    for (row, layer) in LAYERS.iter().enumerate() {
        for ours in layer.ours {
            let at = LAYERS.iter().position(|other| other.folder == *ours);
            assert!(at.is_some_and(|at| at < row), "{} -> {ours}", layer.folder);
        }
    }
}

#[test]
fn the_strict_crates_are_the_ones_that_peers_reach() {
    let places =
        |test: fn(&&Layer) -> bool| LAYERS.iter().filter(test).map(|layer| layer.folder).collect::<Vec<_>>();
    let tooling = places(|layer| layer.panics == Panics::Unreachable);
    assert_eq!(
        tooling,
        ["crates/spec", "crates/loopback", "guest", "counter", "crates/cli", "bench", "xtask"]
    );
    let freestanding = places(|layer| layer.standard_library == StandardLibrary::Absent);
    assert_eq!(freestanding, ["crates/spec", "crates/virtqueue", "crates/virtio-driver"]);
}
