//! Names that say nothing of what a thing does.
//!
//! A name is split into words at `_` and `-`. In a file's, folder's, module's or package's name no word
//! may be a forbidden one; in a function's name the first may not. The specification's own terms are taken out first:
//! `common_config` is a structure's name, not a drawer.

use std::collections::BTreeSet;

use anyhow::Result;
use syn::visit::Visit;

use super::{Finding, Project, Verdict};
use crate::source::SourceFile;

pub(super) const REMEDY: &str = "name it after what it does; where the word is a term of a specification, \
     add the term to SPEC_TERMS in xtask/src/lint/names.rs";

const FORBIDDEN: &[&str] = &["common", "util", "utils", "base", "helper", "helpers"];

/// Terms of the virtio, vhost, PCI and VFIO specifications that hold a forbidden word.
const SPEC_TERMS: &[&str] = &[
    "common_cfg",
    "common_config",
    "common_configuration",
    "base_address",
    "base_class",
    "vring_base",
    "log_base",
];

pub(super) fn check(project: &Project) -> Result<Verdict> {
    let mut findings = packages(project);
    // One folder holds many files; it is named once.
    let mut places = BTreeSet::new();
    for file in &project.files {
        places.extend(bad_parts(&file.place));
        findings.extend(in_file(file));
    }
    findings.extend(places.into_iter().map(|(place, word)| Finding::new(place, forbidden(&word))));
    Ok(Verdict::Findings(findings))
}

fn packages(project: &Project) -> Vec<Finding> {
    let named =
        project.workspace.packages.iter().filter_map(|package| Some((package, any_word(&package.name)?)));
    named.map(|(package, word)| Finding::new(format!("package {}", package.name), forbidden(&word))).collect()
}

fn forbidden(word: &str) -> String {
    format!("the word `{word}` is not allowed here")
}

/// The files and folders along `place` whose own name holds a forbidden word.
fn bad_parts(place: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut path = String::new();
    for part in place.split('/') {
        path = if path.is_empty() { part.to_string() } else { format!("{path}/{part}") };
        if let Some(word) = any_word(part.strip_suffix(".rs").unwrap_or(part)) {
            found.push((path.clone(), word));
        }
    }
    found
}

fn any_word(name: &str) -> Option<String> {
    words(name).find(|word| FORBIDDEN.contains(&word.as_str()))
}

fn first_word(name: &str) -> Option<String> {
    words(name).next().filter(|word| FORBIDDEN.contains(&word.as_str()))
}

/// The words of a name, each term of a specification standing as one.
fn words(name: &str) -> impl Iterator<Item = String> {
    let padded = format!("_{}_", name.to_lowercase().replace('-', "_"));
    let kept = SPEC_TERMS.iter().fold(padded, |name, term| {
        name.replace(&format!("_{term}_"), &format!("_{}_", term.replace('_', "")))
    });
    let words: Vec<String> = kept.split('_').filter(|word| !word.is_empty()).map(String::from).collect();
    words.into_iter()
}

fn in_file(file: &SourceFile) -> Vec<Finding> {
    let mut names = Names { file, findings: Vec::new() };
    names.visit_file(&file.syntax);
    names.findings
}

struct Names<'a> {
    file: &'a SourceFile,
    findings: Vec<Finding>,
}

impl Names<'_> {
    fn refuse(&mut self, kind: &str, name: &syn::Ident, word: Option<String>) {
        if let Some(word) = word {
            let problem = format!("{kind} `{name}`: {}", forbidden(&word));
            self.findings.push(Finding::at(self.file, name.span().start().line, problem));
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.refuse("module", &module.ident, any_word(&module.ident.to_string()));
        syn::visit::visit_item_mod(self, module);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.refuse("function", &signature.ident, first_word(&signature.ident.to_string()));
        syn::visit::visit_signature(self, signature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let file = SourceFile::parse("crates/x/src/a.rs".into(), text.into()).unwrap();
        in_file(&file).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn any_forbidden_word_in_a_file_folder_or_package_is_found() {
        assert_eq!(
            bad_parts("crates/x/src/ring_utils.rs"),
            [("crates/x/src/ring_utils.rs".into(), "utils".into())]
        );
        assert_eq!(bad_parts("crates/common/src/lib.rs"), [("crates/common".into(), "common".into())]);
        assert_eq!(any_word("vioduct-test-helper"), Some("helper".into()));
    }

    #[test]
    fn words_that_only_contain_a_forbidden_one_pass() {
        for name in ["database", "utility", "commonly", "baseline", "virtio-test", "lib.rs"] {
            assert_eq!(any_word(name), None, "{name}");
        }
    }

    #[test]
    fn terms_of_the_specification_pass() {
        for name in ["common_config", "pci_common_cfg", "base_address_register", "set_vring_base"] {
            assert_eq!(any_word(name), None, "{name}");
        }
        assert_eq!(any_word("common_config_utils"), Some("utils".into()));
    }

    #[test]
    fn modules_are_judged_by_every_word_and_functions_by_the_first() {
        assert_eq!(problems("mod pci_util {}"), ["module `pci_util`: the word `util` is not allowed here"]);
        assert_eq!(problems("fn helper() {}"), ["function `helper`: the word `helper` is not allowed here"]);
        assert_eq!(problems("impl X { fn base_of() {} }").len(), 1);
        assert_eq!(problems("trait X { fn common_part(); }").len(), 1);
        assert!(problems("fn region_base() {} fn write_common_config() {} fn common_config() {}").is_empty());
    }
}
