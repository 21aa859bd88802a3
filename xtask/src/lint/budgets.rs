//! Budgets: how long a file and a function may be.

use anyhow::Result;
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::{Finding, Project, Verdict, each_file};
use crate::source::{Lines, Purpose, SourceFile, is_test_only};

pub(super) const REMEDY: &str = "split it by what it does; a part that can be named belongs in a file or \
     function of its own (every line counts, blank ones and comments too)";

/// Lines of a file outside its inline `#[cfg(test)]` modules.
const PRODUCTION_FILE_LINES: usize = 600;
/// Lines of a file of tests or benchmarks.
const TEST_FILE_LINES: usize = 800;
/// Lines from `fn` to the closing brace; attributes and documentation above are free.
const FUNCTION_LINES: usize = 60;
/// The same for a function of test code.
const TEST_FUNCTION_LINES: usize = 100;

pub(super) fn check(project: &Project) -> Result<Verdict> {
    each_file(project, |file| {
        let mut findings: Vec<Finding> = file_budget(file).into_iter().collect();
        findings.extend(function_budgets(file));
        findings
    })
}

fn file_budget(file: &SourceFile) -> Option<Finding> {
    let (lines, budget, what) = match file.purpose {
        Purpose::Production => {
            let test: usize = file.test_lines().iter().map(|lines| lines.count()).sum();
            (file.line_count() - test, PRODUCTION_FILE_LINES, "production lines")
        }
        Purpose::Test => (file.line_count(), TEST_FILE_LINES, "lines of tests"),
    };
    let problem = || format!("{lines} {what}, the budget is {budget}");
    (lines > budget).then(|| Finding::new(&file.place, problem()))
}

fn function_budgets(file: &SourceFile) -> Vec<Finding> {
    let mut functions = Functions { file, purpose: file.purpose, findings: Vec::new() };
    functions.visit_file(&file.syntax);
    functions.findings
}

struct Functions<'a> {
    file: &'a SourceFile,
    purpose: Purpose,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, attributes: &[syn::Attribute], signature: &syn::Signature, body: &syn::Block) {
        let start = signature.fn_token.span.start().line.min(Lines::of(signature.span()).first);
        let lines = Lines { first: start, last: Lines::of(body.span()).last };
        let is_test = self.purpose == Purpose::Test || is_test_only(attributes);
        let budget = if is_test { TEST_FUNCTION_LINES } else { FUNCTION_LINES };
        if lines.count() > budget {
            let problem =
                format!("`{}` has {} lines, the budget is {budget}", signature.ident, lines.count());
            self.findings.push(Finding::at(self.file, lines.first, problem));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.attrs, &function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.attrs, &function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(body) = &function.default {
            self.measure(&function.attrs, &function.sig, body);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let outer = self.purpose;
        if is_test_only(&module.attrs) {
            self.purpose = Purpose::Test;
        }
        syn::visit::visit_item_mod(self, module);
        self.purpose = outer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(place: &str, text: &str) -> SourceFile {
        SourceFile::parse(place.into(), text.into()).unwrap()
    }

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    call();\n".repeat(lines - 2))
    }

    #[test]
    fn a_file_may_have_600_production_lines_and_not_601() {
        let filled = "// line\n".repeat(600);
        assert_eq!(file_budget(&file("a.rs", &filled)), None);
        let finding = file_budget(&file("a.rs", &format!("{filled}\n"))).unwrap();
        assert_eq!(finding.problem, "601 production lines, the budget is 600");
    }

    #[test]
    fn lines_of_an_inline_test_module_are_free() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// line\n".repeat(500));
        let filled = "// line\n".repeat(600);
        assert_eq!(file_budget(&file("a.rs", &format!("{filled}{tests}"))), None);
    }

    #[test]
    fn a_test_file_may_have_800_lines_and_not_801() {
        assert_eq!(file_budget(&file("x/tests.rs", &"// line\n".repeat(800))), None);
        let finding = file_budget(&file("x/tests.rs", &"// line\n".repeat(801))).unwrap();
        assert_eq!(finding.problem, "801 lines of tests, the budget is 800");
    }

    #[test]
    fn a_function_may_have_60_lines_and_not_61() {
        assert_eq!(function_budgets(&file("a.rs", &function("fits", 60))), []);
        let text = format!("/// Documented.\n#[inline]\n{}", function("long", 61));
        let expected = Finding::new("a.rs:3", "`long` has 61 lines, the budget is 60");
        assert_eq!(function_budgets(&file("a.rs", &text)), [expected]);
    }

    #[test]
    fn methods_default_methods_and_nested_functions_are_measured() {
        for (before, after) in [("impl X {\n", "}"), ("trait X {\n", "}"), ("fn outer() {\n", "}")] {
            let text = format!("{before}{}{after}", function("long", 61));
            let findings = function_budgets(&file("a.rs", &text));
            assert!(findings.iter().any(|finding| finding.problem.starts_with("`long`")), "{before}");
        }
    }

    #[test]
    fn test_functions_may_have_100_lines_and_not_101() {
        let in_module = |lines| format!("#[cfg(test)]\nmod tests {{\n{}}}", function("case", lines));
        assert_eq!(function_budgets(&file("a.rs", &in_module(100))), []);
        assert_eq!(function_budgets(&file("a.rs", &in_module(101))).len(), 1);
        assert_eq!(function_budgets(&file("tests/a.rs", &function("case", 100))), []);
        assert_eq!(function_budgets(&file("tests/a.rs", &function("case", 101))).len(), 1);
    }
}
