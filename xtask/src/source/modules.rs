//! The module tree: from each crate root along its `mod` lines, as the compiler goes.

use std::path::{Path, PathBuf};

use super::{Purpose, is_test_only};
use crate::workspace::{Package, Target, Workspace};

/// One file seen as a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) file: PathBuf,
    /// The crate's short name, then the modules: `["virtqueue", "split", "tests"]`.
    pub(crate) path: Vec<String>,
    /// Test code because a `#[cfg(test)]` stands above it, or because its target is a test.
    pub(crate) purpose: Purpose,
}

/// The modules of every member's every target.
pub(super) fn of(workspace: &Workspace) -> Vec<Module> {
    let mut found = Vec::new();
    for package in &workspace.packages {
        for target in &package.targets {
            descend(root_module(package, target), Naming::ModRs, &mut found);
        }
    }
    found
}

/// `vioduct-virtio-driver` is spoken of as `virtio_driver`; an integration test has its own name after that.
fn root_module(package: &Package, target: &Target) -> Module {
    let mut path = vec![crate_name(&package.name)];
    if target.is_test() {
        path.push(target.name.replace('-', "_"));
    }
    let purpose = if target.is_test() { Purpose::Test } else { Purpose::Production };
    Module { file: target.src_path.clone(), path, purpose }
}

/// A package's short name as an identifier.
fn crate_name(package: &str) -> String {
    package.strip_prefix("vioduct-").unwrap_or(package).replace('-', "_")
}

/// Where a file's own modules lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// Beside the file: crate roots, `mod.rs`, and files given by `#[path]`.
    ModRs,
    /// In the folder with the file's name.
    Stem,
}

fn descend(module: Module, naming: Naming, found: &mut Vec<Module>) {
    // A file that is absent or does not parse is the compiler's to report.
    let text = std::fs::read_to_string(&module.file).unwrap_or_default();
    let syntax = syn::parse_file(&text);
    let folder = match naming {
        Naming::ModRs => module.file.parent().unwrap_or(Path::new("/")).to_path_buf(),
        Naming::Stem => module.file.with_extension(""),
    };
    found.push(module.clone());
    if let Ok(syntax) = syntax {
        follow(&syntax.items, &folder, &module, found);
    }
}

/// Follows the `mod` lines among `items`, which belong to `owner` and keep their files in `folder`.
fn follow(items: &[syn::Item], folder: &Path, owner: &Module, found: &mut Vec<Module>) {
    for item in items {
        let syn::Item::Mod(line) = item else { continue };
        let name = line.ident.to_string();
        let mut child = owner.clone();
        child.path.push(name.clone());
        if is_test_only(&line.attrs) {
            child.purpose = Purpose::Test;
        }
        if let Some((_, items)) = &line.content {
            follow(items, &folder.join(&name), &child, found);
        } else if let Some((file, naming)) = file_of(line, folder, owner) {
            child.file = file;
            descend(child, naming, found);
        }
    }
}

/// The file that a `mod name;` line names.
fn file_of(line: &syn::ItemMod, folder: &Path, owner: &Module) -> Option<(PathBuf, Naming)> {
    if let Some(path) = path_attribute(&line.attrs) {
        return Some((owner.file.parent()?.join(path), Naming::ModRs));
    }
    let name = line.ident.to_string();
    let plain = folder.join(format!("{name}.rs"));
    if plain.is_file() {
        return Some((plain, Naming::Stem));
    }
    let nested = folder.join(name).join("mod.rs");
    nested.is_file().then_some((nested, Naming::ModRs))
}

fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => string(&pair.value),
        _ => None,
    })
}

fn string(expression: &syn::Expr) -> Option<String> {
    match expression {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}
