//! Panics on purpose: `.expect()` states an invariant, `.unwrap()` states nothing.

use anyhow::Result;
use syn::visit::Visit;

use super::{Finding, Project, Verdict, each_file};
use crate::source::{Purpose, SourceFile, is_test_only};

pub(super) const REMEDY: &str = "return an error; only where the code above makes failure impossible, write \
     `.expect(\"invariant: <what makes it impossible>\")`";

/// What every `.expect()` message opens with.
const PREFIX: &str = "invariant: ";

pub(super) fn check(project: &Project) -> Result<Verdict> {
    each_file(project, in_file)
}

fn in_file(file: &SourceFile) -> Vec<Finding> {
    if file.purpose == Purpose::Test {
        return Vec::new();
    }
    let mut calls = Calls { file, findings: Vec::new() };
    calls.visit_file(&file.syntax);
    calls.findings
}

struct Calls<'a> {
    file: &'a SourceFile,
    findings: Vec<Finding>,
}

impl Calls<'_> {
    fn judge(&mut self, call: &syn::ExprMethodCall) {
        let problem = match (call.method.to_string().as_str(), call.args.first()) {
            ("unwrap" | "unwrap_err", None) => "`.unwrap()` outside tests",
            ("expect" | "expect_err", Some(message)) if call.args.len() == 1 && !is_invariant(message) => {
                "the message of `.expect()` does not start with `invariant: `"
            }
            _ => return,
        };
        self.findings.push(Finding::at(self.file, call.method.span().start().line, problem));
    }
}

fn is_invariant(message: &syn::Expr) -> bool {
    match message {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
            text.value().strip_prefix(PREFIX).is_some_and(|why| !why.trim().is_empty())
        }
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Calls<'_> {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.judge(call);
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test_only(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test_only(&function.attrs) {
            syn::visit::visit_item_fn(self, function);
        }
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        if !is_test_only(&block.attrs) {
            syn::visit::visit_item_impl(self, block);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test_only(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(place: &str, text: &str) -> usize {
        in_file(&SourceFile::parse(place.into(), text.into()).unwrap()).len()
    }

    #[test]
    fn an_invariant_passes() {
        assert_eq!(count("a.rs", r#"fn f() { x.expect("invariant: len is below 16"); }"#), 0);
    }

    #[test]
    fn any_other_message_fails() {
        for message in [r#""must work""#, r#""invariant: ""#, "message", "&format!(\"invariant: {x}\")"] {
            assert_eq!(count("a.rs", &format!("fn f() {{ x.expect({message}); }}")), 1, "{message}");
        }
    }

    #[test]
    fn unwrap_fails_and_its_relatives_pass() {
        assert_eq!(count("a.rs", "fn f() { x.unwrap(); y().unwrap(); }"), 2);
        assert_eq!(
            count("a.rs", "fn f() { x.unwrap_or(1); x.unwrap_or_default(); x.unwrap_or_else(g); }"),
            0
        );
    }

    #[test]
    fn tests_may_do_either() {
        let calls = r#"fn f() { x.unwrap(); x.expect("it"); }"#;
        assert_eq!(count("src/tests.rs", calls), 0);
        assert_eq!(count("a.rs", &format!("#[cfg(test)] mod tests {{ {calls} }}")), 0);
        assert_eq!(count("a.rs", &format!("#[test] {calls}")), 0);
        assert_eq!(count("a.rs", &format!("#[cfg(test)] impl X {{ {calls} }}")), 0);
    }
}
