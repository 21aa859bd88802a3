//! Manifests: what every member says of itself.

use anyhow::{Context, Result};

use super::{Finding, Project, Verdict};
use crate::workspace::{Package, relative};

pub(super) const REMEDY: &str = "give the crate `description`, `license.workspace = true` and `[lints] workspace = true`; \
     a package is named `vioduct-` and its folder, and a cfg of its own is declared in `unexpected_cfgs` of the \
     workspace's lints";

/// Packages whose name is their own: the program and the tasks.
const OWN_NAMES: &[(&str, &str)] = &[("crates/cli", "vioduct"), ("xtask", "xtask")];

pub(super) fn check(project: &Project) -> Result<Verdict> {
    let root = &project.workspace.root;
    let mut findings = Vec::new();
    for package in &project.workspace.packages {
        let manifest = relative(root, package.manifest());
        let text =
            std::fs::read_to_string(package.manifest()).with_context(|| format!("cannot read {manifest}"))?;
        let problems = judge(package, &package.place(root), &text);
        findings.extend(problems.into_iter().map(|problem| Finding::new(&manifest, problem)));
    }
    Ok(Verdict::Findings(findings))
}

fn judge(package: &Package, place: &str, manifest: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if package.description.as_deref().unwrap_or_default().is_empty() {
        problems.push("no `description`".to_string());
    }
    if package.license.as_deref().unwrap_or_default().is_empty() {
        problems.push("no `license`".to_string());
    }
    if !takes_workspace_lints(manifest) {
        problems
            .push("no `[lints] workspace = true`: this crate would escape the workspace's lints".to_string());
    }
    let expected = expected_name(place);
    if package.name != expected {
        problems.push(format!("the package in {place} is to be named `{expected}`, not `{}`", package.name));
    }
    problems
}

fn expected_name(place: &str) -> String {
    let own = OWN_NAMES.iter().find(|(folder, _)| *folder == place).map(|(_, name)| (*name).to_string());
    own.unwrap_or_else(|| format!("vioduct-{}", place.rsplit('/').next().unwrap_or(place)))
}

/// Cargo's metadata does not tell lints, so the manifest's own lines do.
fn takes_workspace_lints(manifest: &str) -> bool {
    let mut section = "";
    for line in manifest.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        let squeezed: String = line.split_whitespace().collect();
        if line.starts_with('[') {
            section = line;
        } else if (section == "[lints]" && squeezed == "workspace=true")
            || (section.is_empty() && squeezed == "lints.workspace=true")
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTED: &str =
        "[package]\nname = \"x\"\n\n[lints]\nworkspace = true # all of them\n\n[dependencies]\n";

    fn package(name: &str, description: &str, license: &str) -> Package {
        let json = serde_json::json!({
            "name": name,
            "manifest_path": "/w/x/Cargo.toml",
            "description": description,
            "license": license,
            "dependencies": [],
            "targets": [],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_complete_manifest_passes() {
        for (name, place) in [("vioduct-x", "crates/x"), ("vioduct", "crates/cli"), ("xtask", "xtask")] {
            assert!(judge(&package(name, "An x", "MIT"), place, LINTED).is_empty(), "{place}");
        }
    }

    #[test]
    fn each_omission_is_named() {
        let problems = judge(&package("x", "", ""), "crates/x", "[package]\n");
        assert_eq!(problems.len(), 4);
        assert!(problems[3].contains("`vioduct-x`, not `x`"));
    }

    #[test]
    fn the_lints_line_counts_in_its_own_section_only() {
        assert!(takes_workspace_lints(LINTED));
        assert!(!takes_workspace_lints("[package.version]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\n# workspace = true\n"));
        assert!(!takes_workspace_lints("[lints]\nworkspace = false\n[x]\nworkspace = true\n"));
    }
}
