//! The project's Rust files, parsed: where each lies, what is test code in it, which module it is.

mod modules;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

use crate::workspace::{Workspace, relative};
pub(crate) use modules::Module;

/// What a whole file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Production,
    Test,
}

/// One parsed file.
pub(crate) struct SourceFile {
    /// The path below the workspace's folder, with `/` between its parts.
    pub(crate) place: String,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    /// Test code from its first line to its last: by its name, or as a `#[cfg(test)]` module.
    pub(crate) purpose: Purpose,
    /// The modules that this file is, one for each crate root that reaches it.
    pub(crate) modules: Vec<Vec<String>>,
}

/// A range of lines, both ends within it, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl Lines {
    pub(crate) fn of(span: Span) -> Self {
        Self { first: span.start().line, last: span.end().line }
    }

    pub(crate) fn count(self) -> usize {
        self.last + 1 - self.first
    }
}

/// Every Rust file of the project, and beside them an error for each that cannot be read or parsed.
pub(crate) fn load(workspace: &Workspace) -> Result<(Vec<SourceFile>, Vec<anyhow::Error>)> {
    let mut modules: HashMap<PathBuf, Vec<Module>> = HashMap::new();
    for module in modules::of(workspace) {
        modules.entry(module.file.clone()).or_default().push(module);
    }
    let (mut files, mut errors) = (Vec::new(), Vec::new());
    for path in rust_files(&workspace.root)? {
        let known = modules.remove(&path).unwrap_or_default();
        match SourceFile::read(&workspace.root, &path, known) {
            Ok(file) => files.push(file),
            Err(error) => errors.push(error),
        }
    }
    Ok((files, errors))
}

impl SourceFile {
    fn read(root: &Path, path: &Path, known: Vec<Module>) -> Result<Self> {
        let place = relative(root, path);
        let text = std::fs::read_to_string(path).with_context(|| format!("{place} cannot be read"))?;
        let mut file = Self::parse(place, text)?;
        // A file that production code reaches too is held to production's rules.
        if !known.is_empty() && known.iter().all(|module| module.purpose == Purpose::Test) {
            file.purpose = Purpose::Test;
        }
        file.modules = known.into_iter().map(|module| module.path).collect();
        Ok(file)
    }

    /// A file judged by its name and text alone.
    pub(crate) fn parse(place: String, text: String) -> Result<Self> {
        let syntax = syn::parse_file(&text).with_context(|| format!("{place} is not valid Rust"))?;
        let purpose = purpose_by_name(&place);
        Ok(Self { place, text, syntax, purpose, modules: Vec::new() })
    }

    /// How many lines the file has.
    pub(crate) fn line_count(&self) -> usize {
        self.text.lines().count()
    }

    /// The lines of the inline `#[cfg(test)]` modules.
    pub(crate) fn test_lines(&self) -> Vec<Lines> {
        let mut finder = TestModules(Vec::new());
        finder.visit_file(&self.syntax);
        finder.0
    }
}

struct TestModules(Vec<Lines>);

impl<'ast> Visit<'ast> for TestModules {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() && is_test_only(&module.attrs) {
            self.0.push(Lines::of(module.span()));
        } else {
            syn::visit::visit_item_mod(self, module);
        }
    }
}

/// Test code by name: `tests.rs`, `*_tests.rs`, and all below a `tests`, `benches` or top `fuzz` folder.
pub(crate) fn purpose_by_name(place: &str) -> Purpose {
    let (folders, name) = place.rsplit_once('/').unwrap_or(("", place));
    let by_name = name == "tests.rs" || name.ends_with("_tests.rs");
    let by_folder = folders.split('/').any(|folder| folder == "tests" || folder == "benches");
    if by_name || by_folder || place.starts_with("fuzz/") { Purpose::Test } else { Purpose::Production }
}

/// True for `#[cfg(test)]`, for `#[cfg(all(test, …))]`, and for a function marked `#[test]`.
pub(crate) fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) if list.path.is_ident("cfg") => demands_test(&list.tokens),
        _ => false,
    })
}

/// Whether a `cfg` predicate can hold in a test build only.
fn demands_test(predicate: &TokenStream) -> bool {
    let tokens: Vec<TokenTree> = predicate.clone().into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(name)] => name == "test",
        [TokenTree::Ident(name), TokenTree::Group(group)] if name == "all" => {
            terms(group.stream()).iter().any(demands_test)
        }
        _ => false,
    }
}

/// The comma-separated parts of a token stream.
fn terms(tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    for token in tokens {
        match (&token, parts.last_mut()) {
            (TokenTree::Punct(punct), _) if punct.as_char() == ',' => parts.push(TokenStream::new()),
            (_, Some(part)) => part.extend([token]),
            (_, None) => {}
        }
    }
    parts
}

/// The `.rs` files below `root`, sorted, without build folders and hidden ones.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
        {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && !is_skipped(&path) {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Hidden folders and build folders (which cargo marks with a tag file).
fn is_skipped(folder: &Path) -> bool {
    let hidden = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    hidden || folder.join("CACHEDIR.TAG").is_file() || folder.ends_with("target")
}

#[cfg(test)]
mod tests;
