//! Documents: the ones that must exist, and links between files that must lead somewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Finding, Project, Verdict};
use crate::workspace::relative;

pub(super) const REMEDY: &str =
    "write the document, or correct the link (a link is relative to its document)";

/// What a visitor looks for first.
const REQUIRED: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];

pub(super) fn check(project: &Project) -> Result<Verdict> {
    let root = &project.workspace.root;
    let absent = REQUIRED.iter().filter(|name| !root.join(name).is_file());
    let mut findings: Vec<Finding> = absent.map(|name| Finding::new(*name, "does not exist")).collect();
    let mut documents = markdown_files(root, Depth::Here)?;
    documents.extend(markdown_files(&root.join("docs"), Depth::Below)?);
    for document in documents {
        let place = relative(root, &document);
        let text = std::fs::read_to_string(&document).with_context(|| format!("cannot read {place}"))?;
        findings.extend(dead_links(&document, &place, &text));
    }
    Ok(Verdict::Findings(findings))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Here,
    Below,
}

fn markdown_files(folder: &Path, depth: Depth) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && depth == Depth::Below {
            files.extend(markdown_files(&path, depth)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn dead_links(document: &Path, place: &str, text: &str) -> Vec<Finding> {
    let folder = document.parent().unwrap_or(Path::new("."));
    let dead = links(text).into_iter().filter(|(_, target)| !folder.join(target).exists());
    dead.map(|(line, target)| Finding::new(format!("{place}:{line}"), format!("`{target}` does not exist")))
        .collect()
}

/// The files that a document links to, with the line of each link; web addresses and fragments are left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let prose = without_code(text);
        let definition = prose.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let targets = inline.chain(definition.map(|(_, target)| target));
        found.extend(targets.filter_map(file_part).map(|target| (line, target)));
    }
    found
}

/// A link's target without title and fragment, when it is a file.
fn file_part(target: &str) -> Option<String> {
    let address = target.split_whitespace().next()?.trim_matches(['<', '>']);
    let file = address.split('#').next().unwrap_or_default();
    let elsewhere = address.contains("://") || address.starts_with("mailto:");
    (!elsewhere && !file.is_empty()).then(|| file.to_string())
}

/// The line without its `code`.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found_in_both_forms() {
        let text = "See [a](a.md), [b](../b/c.md#part \"title\") and [c][1].\n\n[1]: d.md\n";
        assert_eq!(links(text), [(1, "a.md".into()), (1, "../b/c.md".into()), (3, "d.md".into())]);
    }

    #[test]
    fn addresses_fragments_and_code_are_no_files() {
        let text = "[a](https://example.org/x) [b](#part) `[c](d.md)` [e](mailto:f@g)\n```\n[h](i.md)\n```\n";
        assert_eq!(links(text), []);
    }

    #[test]
    fn a_link_is_resolved_from_its_documents_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here.md"), "").unwrap();
        let found = dead_links(&folder.path().join("x.md"), "docs/x.md", "[a](here.md)\n[b](gone.md)\n");
        assert_eq!(found, [Finding::new("docs/x.md:2", "`gone.md` does not exist")]);
    }
}
