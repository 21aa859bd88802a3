use super::*;
use crate::source::SourceFile;

const ATTACK_TABLE: &str = "| row | attack | must | test |\n|---|---|---|---|\n";

fn tests() -> TestNames {
    let file = |place: &str, module: &[&str], text: &str| {
        let mut file = SourceFile::parse(place.into(), text.into()).unwrap();
        file.modules = vec![module.iter().map(|part| (*part).to_string()).collect()];
        file
    };
    TestNames::of(&[
        file(
            "crates/virtqueue/src/conformance/split.rs",
            &["virtqueue", "conformance", "split"],
            "#[test]\nfn s2_7_13_2_index_after_ring() {}\n#[test]\nfn reset() {}\nfn not_a_test() {}\n\
             proptest! {\n    #[test]\n    fn any_chain(x in 0..9) {}\n}\n\
             #[test]\n#[ignore = \"slow\"]\nfn later() {}\n",
        ),
        file(
            "crates/pci/src/bars.rs",
            &["pci", "bars"],
            "#[cfg(test)]\nmod tests {\n    #[test]\n    fn reset() {}\n}",
        ),
        file("crates/virtqueue/src/lib.rs", &["virtqueue"], "mod split { #[test]\n fn reset() {} }"),
    ])
}

/// The problems of a document with one clause row, whose other tables are in order.
fn clause(row: &str) -> Vec<String> {
    let document =
        format!("# C\n\n| Section | Clause | Side | Test |\n|---|---|:-:|---|\n{row}\n\n{ATTACK_TABLE}");
    judge(&document, &tests()).into_iter().map(|finding| finding.problem).collect()
}

#[test]
fn empty_tables_pass() {
    assert!(clause("").is_empty());
}

#[test]
fn a_row_with_its_tests_passes() {
    assert!(
        clause("| 2.7.13.2 | The index moves last. | driver | `split::s2_7_13_2_index_after_ring` |")
            .is_empty()
    );
    let several = "| 2.7 | Both. | both | virtqueue::conformance::split::reset, bars::tests::reset<br>split::any_chain |";
    assert!(clause(several).is_empty());
}

#[test]
fn a_missing_test_fails() {
    let problems = clause("| 2.7.13.2 | The index moves last. | driver | `split::s2_7_13_2_absent` |");
    assert_eq!(problems, ["no test is named `split::s2_7_13_2_absent`"]);
}

#[test]
fn a_wrong_module_a_bare_name_and_a_plain_function_fail() {
    for path in ["packed::s2_7_13_2_index_after_ring", "s2_7_13_2_index_after_ring", "split::not_a_test"] {
        assert_eq!(
            clause(&format!("| 2.7 | A. | driver | {path} |")),
            [format!("no test is named `{path}`")]
        );
    }
}

#[test]
fn an_ambiguous_path_and_an_ignored_test_fail() {
    let problems = clause("| 2.7 | A. | driver | split::reset |");
    assert_eq!(
        problems,
        [
            "`split::reset` is any of virtqueue::conformance::split::reset, virtqueue::split::reset: write more of the path"
        ]
    );
    let problems = clause("| 2.7 | A. | driver | split::later |");
    assert_eq!(problems, ["the test `split::later` is #[ignore]d: it proves nothing"]);
}

#[test]
fn a_row_without_a_test_or_with_an_unknown_side_fails() {
    assert_eq!(clause("| 2.7 | A. | driver | |"), ["no test"]);
    assert_eq!(
        clause("| 2.7 | A. | guest | split::any_chain |"),
        ["the side is one of driver, device, both, not `guest`"]
    );
    assert_eq!(clause("| 2.7 | A. | driver |"), ["3 cells in a row of 4"]);
}

#[test]
fn a_clause_that_stands_twice_fails_and_two_clauses_of_a_section_pass() {
    let row = "| 2.7 | A. | driver | split::any_chain |";
    assert_eq!(clause(&format!("{row}\n{row}")), ["this clause stands twice"]);
    assert!(clause(&format!("{row}\n{}", row.replace("A.", "B."))).is_empty());
}

#[test]
fn attacks_follow_the_same_rules() {
    let clauses = "| section | clause | side | test |\n|---|---|---|---|\n";
    let row = "| 1 | The index jumps. | stop the queue | split::any_chain |\n";
    let judged = |rows: &str| judge(&format!("{clauses}\n\n{ATTACK_TABLE}{rows}"), &tests()).len();
    assert_eq!(judged(row), 0);
    assert_eq!(judged(&row.replace("any_chain", "absent")), 1);
    assert_eq!(judged(&format!("{row}{}", row.replace("jumps", "leaps"))), 1);
}

#[test]
fn both_forms_of_table_must_be_there_and_no_other() {
    let problems: Vec<_> = judge("| a | b |\n|---|---|\n| 1 | 2 |\n", &tests()).into_iter().collect();
    assert_eq!(problems.len(), 3);
    assert_eq!(problems[0].place, "docs/conformance.md:1");
    assert!(problems[1].problem.contains("no table with the header `section | clause | side | test`"));
}

#[test]
fn bars_may_be_escaped_and_fences_are_no_tables() {
    let document = format!("```\n{ATTACK_TABLE}```\n| a \\| b | c |\n|--|--|\n");
    let tables = table::tables(&document);
    assert_eq!(tables.len(), 1);
    assert_eq!(tables[0].header, ["a | b", "c"]);
}
