//! Attributes that a crate's root must carry: `no_std`, and the denied ways to panic.

use anyhow::Result;

use super::layers::{self, Panics, StandardLibrary};
use super::{Finding, Project, Verdict};
use crate::source::SourceFile;
use crate::workspace::relative;

pub(super) const REMEDY: &str =
    "add the attribute at the top of the crate's lib.rs (tests are exempt by clippy.toml)";

/// What a peer must not be able to make happen.
const DENIED: &[&str] = &["clippy::indexing_slicing", "clippy::panic"];

pub(super) fn check(project: &Project) -> Result<Verdict> {
    let mut findings = Vec::new();
    for package in &project.workspace.packages {
        let place = package.place(&project.workspace.root);
        // A crate without a row is reported by `directions`.
        let Some(layer) = layers::of(&place) else { continue };
        for target in package.targets.iter().filter(|target| target.is_library()) {
            let root = relative(&project.workspace.root, &target.src_path);
            let file = project.files.iter().find(|file| file.place == root);
            findings
                .extend(file.into_iter().flat_map(|file| judge(file, layer.standard_library, layer.panics)));
        }
    }
    Ok(Verdict::Findings(findings))
}

fn judge(root: &SourceFile, standard_library: StandardLibrary, panics: Panics) -> Vec<Finding> {
    let mut missing = Vec::new();
    if standard_library == StandardLibrary::Absent
        && !root.syntax.attrs.iter().any(|a| a.path().is_ident("no_std"))
    {
        missing.push("#![no_std]".to_string());
    }
    if panics == Panics::Denied {
        let denied = denied_lints(&root.syntax.attrs);
        let absent = DENIED.iter().filter(|lint| !denied.iter().any(|name| name == *lint));
        missing.extend(absent.map(|lint| format!("#![deny({lint})]")));
    }
    missing.into_iter().map(|attribute| Finding::new(&root.place, format!("lacks `{attribute}`"))).collect()
}

/// The lints that `#![deny(…)]` and `#![forbid(…)]` name.
fn denied_lints(attributes: &[syn::Attribute]) -> Vec<String> {
    let lists = attributes.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("deny") || list.path.is_ident("forbid") => Some(list),
        _ => None,
    });
    let names = lists.flat_map(|list| {
        let text: String = list.tokens.to_string().split_whitespace().collect();
        text.split(',').map(String::from).collect::<Vec<_>>()
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str, standard_library: StandardLibrary, panics: Panics) -> Vec<String> {
        let file = SourceFile::parse("crates/x/src/lib.rs".into(), text.into()).unwrap();
        judge(&file, standard_library, panics).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn all_that_is_demanded_is_demanded() {
        assert_eq!(
            missing("//! A crate.\n", StandardLibrary::Absent, Panics::Denied),
            [
                "lacks `#![no_std]`",
                "lacks `#![deny(clippy::indexing_slicing)]`",
                "lacks `#![deny(clippy::panic)]`"
            ]
        );
        assert!(missing("//! A crate.\n", StandardLibrary::Used, Panics::Unreachable).is_empty());
    }

    #[test]
    fn one_list_or_several_will_do() {
        for denied in [
            "#![deny(clippy::indexing_slicing, clippy::panic)]",
            "#![deny(clippy::panic)]\n#![forbid(clippy::indexing_slicing)]",
        ] {
            let text = format!("//! A crate.\n#![no_std]\n{denied}\n");
            assert!(missing(&text, StandardLibrary::Absent, Panics::Denied).is_empty(), "{denied}");
        }
    }

    #[test]
    fn a_condition_or_a_warning_is_not_enough() {
        let text =
            "#![cfg_attr(not(test), no_std)]\n#![warn(clippy::panic)]\n#![deny(clippy::indexing_slicing)]\n";
        assert_eq!(
            missing(text, StandardLibrary::Absent, Panics::Denied),
            ["lacks `#![no_std]`", "lacks `#![deny(clippy::panic)]`"]
        );
    }
}
