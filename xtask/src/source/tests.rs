use super::*;

fn parse(text: &str) -> SourceFile {
    SourceFile::parse("crates/x/src/a.rs".into(), text.into()).unwrap()
}

#[test]
fn names_tell_test_files() {
    for place in ["crates/x/src/tests.rs", "crates/x/src/ring_tests.rs", "crates/x/tests/all.rs"] {
        assert_eq!(purpose_by_name(place), Purpose::Test, "{place}");
    }
    for place in ["crates/x/benches/pop.rs", "fuzz/fuzz_targets/ring.rs", "crates/x/src/a/tests/b.rs"] {
        assert_eq!(purpose_by_name(place), Purpose::Test, "{place}");
    }
    for place in ["crates/x/src/lib.rs", "crates/x/src/testing.rs", "crates/virtio-test/src/handler.rs"] {
        assert_eq!(purpose_by_name(place), Purpose::Production, "{place}");
    }
}

#[test]
fn test_lines_run_from_the_attribute_to_the_closing_brace() {
    let file = parse("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n");
    assert_eq!(file.test_lines(), [Lines { first: 3, last: 6 }]);
    assert_eq!(file.line_count(), 7);
}

#[test]
fn cfg_all_with_test_is_test_code_and_any_is_not() {
    let file = parse(
        "#[cfg(all(not(loom), test))]\nmod a {}\n#[cfg(any(test, loom))]\nmod b {}\n#[cfg(not(test))]\nmod c {}\n",
    );
    assert_eq!(file.test_lines(), [Lines { first: 1, last: 2 }]);
}

#[test]
fn a_file_that_does_not_parse_is_named() {
    let error = SourceFile::parse("crates/x/src/a.rs".into(), "fn (".into()).err().unwrap();
    assert!(error.to_string().contains("crates/x/src/a.rs"));
}

#[test]
fn modules_are_followed_from_the_root_with_their_purpose() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("Cargo.toml", "");
    write(
        "src/lib.rs",
        "mod ring;\n#[cfg(test)]\nmod model;\n#[cfg(test)]\n#[path = \"odd.rs\"]\nmod named;\n",
    );
    write("src/ring.rs", "mod inner { mod deep; }\nmod split;\n");
    write("src/ring/inner/deep.rs", "");
    write("src/ring/split/mod.rs", "mod leaf;");
    write("src/ring/split/leaf.rs", "");
    write("src/model.rs", "mod step;");
    write("src/model/step.rs", "");
    write("src/odd.rs", "");
    write("tests/foreign-ends.rs", "");

    let workspace = workspace(folder.path());
    let found: Vec<(String, Purpose)> =
        modules::of(&workspace).into_iter().map(|module| (module.path.join("::"), module.purpose)).collect();
    let production = [
        "queue",
        "queue::ring",
        "queue::ring::inner::deep",
        "queue::ring::split",
        "queue::ring::split::leaf",
    ];
    let test = ["queue::model", "queue::model::step", "queue::named", "queue::foreign_ends"];
    let expected: Vec<(String, Purpose)> = production
        .iter()
        .map(|path| ((*path).to_string(), Purpose::Production))
        .chain(test.iter().map(|path| ((*path).to_string(), Purpose::Test)))
        .collect();
    assert_eq!(found, expected);

    let (files, errors) = load(&workspace).unwrap();
    assert!(errors.is_empty());
    let step = files.iter().find(|file| file.place == "src/model/step.rs").unwrap();
    assert_eq!(step.purpose, Purpose::Test);
    assert_eq!(step.modules, [["queue", "model", "step"].map(String::from).to_vec()]);
}

fn workspace(root: &Path) -> Workspace {
    let json = serde_json::json!({
        "workspace_root": root,
        "target_directory": root.join("target"),
        "packages": [{
            "name": "vioduct-queue",
            "manifest_path": root.join("Cargo.toml"),
            "description": null,
            "license": null,
            "dependencies": [],
            "targets": [
                { "name": "queue", "kind": ["lib"], "src_path": root.join("src/lib.rs") },
                { "name": "foreign-ends", "kind": ["test"], "src_path": root.join("tests/foreign-ends.rs") },
            ],
        }],
    });
    serde_json::from_value(json).unwrap()
}
