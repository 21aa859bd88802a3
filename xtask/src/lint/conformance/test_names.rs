//! Every `#[test]` function by its path.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::Visit;

use crate::source::SourceFile;

/// All tests of the workspace.
#[derive(Default)]
pub(super) struct TestNames(Vec<TestName>);

/// One test: `["virtqueue", "conformance", "split", "s2_7_13_2_…"]`, from the crate's short name to the function.
struct TestName {
    path: Vec<String>,
    run: Run,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Always,
    /// `#[ignore]`: only when asked for.
    OnDemand,
}

/// What a cited path comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    One,
    None,
    Ignored,
    Several(Vec<String>),
}

impl TestNames {
    pub(super) fn of(files: &[SourceFile]) -> Self {
        let mut names = Self::default();
        for file in files {
            for module in &file.modules {
                let mut scan = Scan { module: module.clone(), found: &mut names.0 };
                scan.visit_file(&file.syntax);
            }
        }
        names
    }

    /// The path must match the end of exactly one test's, and say more than the function's name.
    pub(super) fn resolve(&self, cited: &str) -> Resolution {
        let wanted: Vec<&str> = cited.split("::").collect();
        let ends_so = |test: &&TestName| {
            let rest = test.path.len().checked_sub(wanted.len());
            rest.is_some_and(|rest| test.path.iter().skip(rest).eq(wanted.iter()))
        };
        if wanted.len() < 2 {
            return Resolution::None;
        }
        let found: Vec<&TestName> = self.0.iter().filter(ends_so).collect();
        match found.as_slice() {
            [] => Resolution::None,
            [test] if test.run == Run::OnDemand => Resolution::Ignored,
            [_] => Resolution::One,
            several => Resolution::Several(several.iter().map(|test| test.path.join("::")).collect()),
        }
    }
}

struct Scan<'a> {
    module: Vec<String>,
    found: &'a mut Vec<TestName>,
}

impl Scan<'_> {
    fn record(&mut self, name: String, run: Run) {
        let path = self.module.iter().cloned().chain([name]).collect();
        self.found.push(TestName { path, run });
    }
}

impl<'ast> Visit<'ast> for Scan<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        let marked = |name: &str| function.attrs.iter().any(|attribute| attribute.path().is_ident(name));
        if marked("test") {
            self.record(
                function.sig.ident.to_string(),
                if marked("ignore") { Run::OnDemand } else { Run::Always },
            );
        }
    }

    // `proptest! { #[test] fn … }` is tokens to us. A macro's definition is no test.
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if item.ident.is_none() {
            for (name, run) in tests_among(item.mac.tokens.clone()) {
                self.record(name, run);
            }
        }
    }
}

/// The functions that stand behind a `#[test]` among the tokens.
fn tests_among(tokens: TokenStream) -> Vec<(String, Run)> {
    let mut found = Vec::new();
    let mut attributes: Vec<String> = Vec::new();
    let mut after_fn = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                attributes.push(group.stream().to_string());
            }
            TokenTree::Ident(name) if after_fn => {
                let marked = |mark: &str| attributes.iter().any(|attribute| attribute == mark);
                if marked("test") {
                    found
                        .push((name.to_string(), if marked("ignore") { Run::OnDemand } else { Run::Always }));
                }
                attributes.clear();
                after_fn = false;
            }
            TokenTree::Ident(name) => after_fn = name == "fn",
            _ => {}
        }
    }
    found
}
