use super::TOPICS;
use super::check::{Check, has_lines};
use crate::rig::Finished;

fn said(status: u8, output: &str, errors: &str) -> Finished {
    Finished { status, output: output.to_string(), errors: errors.to_string() }
}

fn all() -> impl Iterator<Item = &'static Check> {
    TOPICS.iter().flat_map(|topic| topic.checks)
}

#[test]
fn what_is_said_has_an_order() {
    has_lines("one\ntwo\n", &["one", "two"]).unwrap();
    assert!(has_lines("one\ntwo\n", &["two", "one"]).is_err());
}

#[test]
fn a_status_that_is_not_the_expected_one_fails() {
    for check in all() {
        let error = format!("{:#}", check.verdict(&said(99, "words", "")).unwrap_err());
        assert!(error.contains("is 99 instead of") && error.contains("words"), "{error}");
    }
}

#[test]
fn a_check_that_must_fail_says_by_which_words() {
    let silent: Vec<_> = all().filter(|check| !check.judges_its_end()).map(|check| check.name).collect();
    assert_eq!(silent, [""; 0]);
}

#[test]
fn a_refusal_is_one_line_of_errors_alone() {
    let check = Check::refusal("x", &["run"], &["no kernel"]);
    let verdict = |output, errors| check.verdict(&said(1, output, errors));
    verdict("", "vioduct: no kernel\n").unwrap();
    for (output, errors) in
        [("", "vioduct: other\n"), ("", "no kernel\nmore\n"), ("x", "no kernel\n"), ("", "")]
    {
        assert!(verdict(output, errors).is_err(), "{output:?}, {errors:?}");
    }
}

#[test]
fn a_guest_must_say_that_all_is_well() {
    let check = Check::guest("x", "entropy").saying(&["read"]);
    let verdict = |output| check.verdict(&said(0, output, ""));
    verdict("read 64\nvioduct-guest: exit status 0\n").unwrap();
    assert!(verdict("read 64\n").is_err() && verdict("vioduct-guest: exit status 0\nread\n").is_err());
}

#[test]
fn a_filter_chooses_by_topic_and_by_name() {
    let chosen = |filter| TOPICS.iter().flat_map(|topic| topic.chosen(filter)).count();
    assert_eq!(chosen(None), all().count());
    assert_eq!(chosen(Some("refusals")), super::refusals::CHECKS.len());
    assert_eq!((chosen(Some("sixteen")), chosen(Some("no such words"))), (1, 0));
}
