use super::*;

const HEADER: &str = "//! Reads guest memory, which needs unsafe code.\n#![allow(unsafe_code)]\n";

fn problems(text: &str) -> Vec<String> {
    let file = SourceFile::parse("a.rs".into(), text.into()).unwrap();
    in_file(&file).into_iter().map(|finding| format!("{}: {}", finding.place, finding.problem)).collect()
}

fn under_header(code: &str) -> Vec<String> {
    problems(&format!("{HEADER}{code}"))
}

#[test]
fn a_file_without_unsafe_code_needs_nothing() {
    assert!(problems("//! Safe.\nfn f() {}\n").is_empty());
}

#[test]
fn unsafe_code_needs_the_header() {
    let code = "fn f() {\n    // SAFETY: checked above.\n    unsafe { g() }\n}\n";
    assert!(under_header(code).is_empty());
    assert_eq!(problems(code), ["a.rs:1: unsafe code without `#![allow(unsafe_code)]` at the file's top"]);
}

#[test]
fn the_header_must_say_why_before_it_allows() {
    let code = "// SAFETY: no fields.\nunsafe impl Send for X {}\n";
    let silent = problems(&format!("//! A memory.\n#![allow(unsafe_code)]\n{code}"));
    let late = problems(&format!("#![allow(unsafe_code)]\n//! Needs unsafe code.\n{code}"));
    for found in [silent, late] {
        assert_eq!(
            found,
            ["a.rs:1: no `//!` text above `#![allow(unsafe_code)]` that says why unsafe code is needed"]
        );
    }
}

#[test]
fn a_header_without_unsafe_code_is_stale() {
    assert_eq!(under_header("fn f() {}\n"), ["a.rs:1: `#![allow(unsafe_code)]` but no unsafe code"]);
}

#[test]
fn blocks_and_impls_need_a_safety_comment() {
    assert_eq!(
        under_header("fn f() {\n    unsafe { g() }\n}\n"),
        ["a.rs:4: no `// SAFETY:` comment right above this block"]
    );
    assert_eq!(
        under_header("unsafe impl Send for X {}\n"),
        ["a.rs:3: no `// SAFETY:` comment right above this impl"]
    );
    let apart = "fn f() {\n    // SAFETY: far away.\n\n    unsafe { g() }\n}\n";
    assert_eq!(under_header(apart).len(), 1);
}

#[test]
fn the_comment_may_stand_above_the_statement_or_attributes() {
    for code in [
        "fn f() {\n    // SAFETY: in range,\n    // and aligned.\n    let x = wrap(\n        unsafe { g() },\n    );\n}\n",
        "fn f() {\n    // SAFETY: in range.\n    #[cfg(unix)]\n    unsafe { g() }\n}\n",
        "fn f() {\n    match x {\n        // SAFETY: in range.\n        1 => unsafe { g() },\n        _ => 0,\n    }\n}\n",
        "// SAFETY: zero is valid.\nconst X: u8 = unsafe { g() };\n",
    ] {
        assert!(under_header(code).is_empty(), "{code}: {:?}", under_header(code));
    }
}

#[test]
fn one_comment_does_not_cover_the_next_statement() {
    let code = "fn f() {\n    // SAFETY: in range.\n    unsafe { g() };\n    unsafe { h() };\n}\n";
    assert_eq!(under_header(code), ["a.rs:6: no `// SAFETY:` comment right above this block"]);
}

#[test]
fn unsafe_functions_and_traits_document_their_safety() {
    let documented = "/// Reads.\n///\n/// # Safety\n/// `at` is valid.\npub unsafe fn f(at: *const u8) {}\n";
    assert!(under_header(documented).is_empty());
    assert_eq!(under_header("/// Reads.\npub unsafe fn f() {}\n").len(), 1);
    assert_eq!(under_header("/// Memory.\npub unsafe trait Dma {}\n").len(), 1);
    assert_eq!(under_header("impl X {\n    unsafe fn f() {}\n}\n").len(), 1);
}

#[test]
fn functions_of_an_unsafe_trait_are_documented_at_the_trait_but_their_blocks_are_read() {
    let code = "impl Dma for X {\n    unsafe fn free(&self) {\n        unsafe { g() }\n    }\n}\n";
    assert_eq!(under_header(code), ["a.rs:5: no `// SAFETY:` comment right above this block"]);
}

#[test]
fn items_may_not_open_unsafe_code_for_themselves() {
    for code in ["#[allow(unsafe_code)]\nfn f() {}\n", "mod m {\n    #![allow(unsafe_code)]\n}\n"] {
        let found = problems(code);
        assert!(found.iter().any(|problem| problem.contains("allow it for a file")), "{found:?}");
    }
}

#[test]
fn unsafe_code_in_macros_is_seen() {
    let code = "macro_rules! m {\n    () => {\n        unsafe { g() }\n    };\n}\n";
    assert!(problems(code).iter().any(|problem| problem.contains("without `#![allow(unsafe_code)]`")));
    let reasoned =
        "macro_rules! m {\n    () => {\n        // SAFETY: in range.\n        unsafe { g() }\n    };\n}\n";
    assert!(under_header(reasoned).is_empty());
}
