//! Directions: every dependency of a member, judged by the table in [`layers`].

use std::collections::HashMap;

use anyhow::Result;

use super::layers::{self, Foreign, Layer, PEERS, PEERS_ALLOWED_IN};
use super::{Finding, Project, Verdict};
use crate::workspace::{Dependency, DependencyKind, Package, Workspace};

pub(super) const REMEDY: &str = "depend only on what the crate's row in xtask/src/lint/layers.rs allows; \
     a new crate gets a row of its own there";

pub(super) fn check(project: &Project) -> Result<Verdict> {
    Ok(Verdict::Findings(judge(&project.workspace)))
}

fn judge(workspace: &Workspace) -> Vec<Finding> {
    let places: HashMap<&str, String> = workspace
        .packages
        .iter()
        .map(|package| (package.name.as_str(), package.place(&workspace.root)))
        .collect();
    workspace.packages.iter().flat_map(|package| judge_package(package, &places)).collect()
}

fn judge_package(package: &Package, places: &HashMap<&str, String>) -> Vec<Finding> {
    let Some(place) = places.get(package.name.as_str()) else { return Vec::new() };
    let Some(layer) = layers::of(place) else {
        return vec![Finding::new(place, "this crate has no row in xtask/src/lint/layers.rs: add one")];
    };
    let problems =
        package.dependencies.iter().filter_map(|dependency| problem(layer, place, dependency, places));
    problems.map(|problem| Finding::new(format!("{place}/Cargo.toml"), problem)).collect()
}

/// What is wrong with one dependency of the crate in `place`.
fn problem(
    layer: &Layer,
    place: &str,
    dependency: &Dependency,
    places: &HashMap<&str, String>,
) -> Option<String> {
    let name = &dependency.name;
    if PEERS.contains(&name.as_str()) {
        return (place != PEERS_ALLOWED_IN)
            .then(|| format!("`{name}` is a peer: only {PEERS_ALLOWED_IN}/ may use it"));
    }
    let in_tests = dependency.kind == Some(DependencyKind::Dev);
    match places.get(name.as_str()) {
        // Integration tests may switch on features of the crate they test.
        Some(ours) if ours == place => None,
        Some(ours) => {
            (!may_use(layer, ours, in_tests)).then(|| format!("must not depend on `{name}`{}", so(in_tests)))
        }
        None if layer.foreign == Foreign::InTestsOnly && !in_tests => Some(format!(
            "`{name}` is not ours: kernel modules compile this crate, which has no foreign dependency"
        )),
        None => None,
    }
}

fn may_use(layer: &Layer, place: &str, in_tests: bool) -> bool {
    let allowed = |patterns: &[&str]| patterns.iter().any(|pattern| layers::matches(pattern, place));
    allowed(layer.ours) || (in_tests && allowed(layer.in_tests))
}

fn so(in_tests: bool) -> &'static str {
    if in_tests { ", not even in tests" } else { "" }
}

#[cfg(test)]
#[path = "directions_tests.rs"]
mod tests;
