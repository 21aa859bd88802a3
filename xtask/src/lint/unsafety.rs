//! Unsafe code: opened per file, under a header that says why, with a reason at every block.

use anyhow::Result;
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::{Finding, Project, Verdict, each_file};
use crate::source::SourceFile;

pub(super) const REMEDY: &str = "open the file with `//!` lines that say why it needs unsafe code, then \
     `#![allow(unsafe_code)]`; put `// SAFETY: <why it holds, whatever the guest does>` right above each block and \
     impl, and a `# Safety` section into the documentation of each unsafe fn and trait";

pub(super) fn check(project: &Project) -> Result<Verdict> {
    each_file(project, in_file)
}

fn in_file(file: &SourceFile) -> Vec<Finding> {
    let mut scan = Scan { file, anchors: Vec::new(), found: 0, findings: Vec::new() };
    scan.visit_file(&file.syntax);
    let opened = header(&file.syntax.attrs);
    let mut findings = scan.findings;
    match (opened, scan.found) {
        (Header::Closed, 0) | (Header::Opened, 1..) => {}
        (Header::Closed, _) => {
            findings.push(Finding::at(
                file,
                1,
                "unsafe code without `#![allow(unsafe_code)]` at the file's top",
            ));
        }
        (Header::Opened, 0) => {
            findings.push(Finding::at(file, 1, "`#![allow(unsafe_code)]` but no unsafe code"));
        }
        (Header::Unexplained, _) => {
            let problem = "no `//!` text above `#![allow(unsafe_code)]` that says why unsafe code is needed";
            findings.push(Finding::at(file, 1, problem));
        }
    }
    findings
}

enum Header {
    /// No unsafe code allowed.
    Closed,
    /// Allowed, and the documentation above says why.
    Opened,
    /// Allowed without a reason.
    Unexplained,
}

fn header(attributes: &[syn::Attribute]) -> Header {
    let Some(at) = attributes.iter().position(allows_unsafe) else { return Header::Closed };
    let before = attributes.iter().take(at).filter_map(documentation);
    let explained = before.into_iter().any(|line| line.to_lowercase().contains("unsafe"));
    if explained { Header::Opened } else { Header::Unexplained }
}

fn allows_unsafe(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let opens = list.path.is_ident("allow") || list.path.is_ident("expect") || list.path.is_ident("warn");
    opens && !occurrences(list.tokens.clone(), "unsafe_code").is_empty()
}

fn documentation(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) if pair.path.is_ident("doc") => {
            Some(text.value())
        }
        _ => None,
    }
}

/// Where the word stands among the tokens, groups included.
fn occurrences(tokens: TokenStream, word: &str) -> Vec<Span> {
    let of_token = |token| match token {
        TokenTree::Ident(name) if name == word => vec![name.span()],
        TokenTree::Group(group) => occurrences(group.stream(), word),
        _ => Vec::new(),
    };
    tokens.into_iter().flat_map(of_token).collect()
}

struct Scan<'a> {
    file: &'a SourceFile,
    /// First lines of the statements, arms and items around the place being visited: a SAFETY comment
    /// may stand above any of the innermost ones that begin a line of their own.
    anchors: Vec<usize>,
    found: usize,
    findings: Vec<Finding>,
}

impl Scan<'_> {
    /// Unsafe code that needs a SAFETY comment right above it, or above the statement it stands in.
    fn needs_comment(&mut self, what: &str, span: Span) {
        self.found += 1;
        let line = span.start().line;
        let above = |start: &usize| has_safety_comment(&self.file.text, *start);
        if !above(&line) && !self.anchors.last().is_some_and(above) {
            let problem = format!("no `// SAFETY:` comment right above this {what}");
            self.findings.push(Finding::at(self.file, line, problem));
        }
    }

    /// Unsafe code that its caller or implementor answers for: its documentation must say how.
    fn needs_section(&mut self, what: &str, span: Span, attributes: &[syn::Attribute]) {
        self.found += 1;
        if !attributes.iter().filter_map(documentation).any(|line| line.trim() == "# Safety") {
            let problem = format!("no `# Safety` section in the documentation of this {what}");
            self.findings.push(Finding::at(self.file, span.start().line, problem));
        }
    }

    fn anchored(&mut self, span: Span, visit: impl FnOnce(&mut Self)) {
        self.anchors.push(span.start().line);
        visit(self);
        self.anchors.pop();
    }
}

/// Whether the comment lines right above `line` (attributes may stand between), or the line itself
/// before its code, hold `SAFETY:`.
fn has_safety_comment(text: &str, line: usize) -> bool {
    let lines: Vec<&str> = text.lines().take(line).map(str::trim).collect();
    let Some((own, above)) = lines.split_last() else { return false };
    let attached = above.iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#["));
    own.contains("/* SAFETY:") || attached.into_iter().any(|line| line.starts_with("// SAFETY:"))
}

impl<'ast> Visit<'ast> for Scan<'_> {
    // The file's own attributes are its header, which `header` reads.
    fn visit_file(&mut self, file: &'ast syn::File) {
        for item in &file.items {
            self.visit_item(item);
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let line = attribute.span().start().line;
        if allows_unsafe(attribute) {
            let problem = "unsafe code is allowed here for an item; allow it for a file, at its top";
            self.findings.push(Finding::at(self.file, line, problem));
        }
        if attribute.path().is_ident("unsafe") {
            self.needs_comment("attribute", attribute.span());
        }
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.anchored(item.span(), |scan| syn::visit::visit_item(scan, item));
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        self.anchored(item.span(), |scan| syn::visit::visit_impl_item(scan, item));
    }

    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        self.anchored(statement.span(), |scan| syn::visit::visit_stmt(scan, statement));
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.anchored(arm.span(), |scan| syn::visit::visit_arm(scan, arm));
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.needs_comment("block", block.unsafe_token.span);
        syn::visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        if let Some(token) = &block.unsafety {
            self.needs_comment("impl", token.span);
        }
        if block.trait_.is_none() {
            return syn::visit::visit_item_impl(self, block);
        }
        // The safety of a trait's unsafe functions is documented at the trait; their bodies are still read.
        for item in &block.items {
            match item {
                syn::ImplItem::Fn(function) => {
                    self.found += usize::from(function.sig.unsafety.is_some());
                    self.visit_block(&function.block);
                }
                other => self.visit_impl_item(other),
            }
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if let Some(token) = &function.sig.unsafety {
            self.needs_section("fn", token.span, &function.attrs);
        }
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if let Some(token) = &function.sig.unsafety {
            self.needs_section("fn", token.span, &function.attrs);
        }
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(token) = &function.sig.unsafety {
            self.needs_section("fn", token.span, &function.attrs);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_trait(&mut self, definition: &'ast syn::ItemTrait) {
        if let Some(token) = &definition.unsafety {
            self.needs_section("trait", token.span, &definition.attrs);
        }
        syn::visit::visit_item_trait(self, definition);
    }

    fn visit_item_foreign_mod(&mut self, block: &'ast syn::ItemForeignMod) {
        self.needs_comment("extern block", block.span());
        syn::visit::visit_item_foreign_mod(self, block);
    }

    // Macros are tokens to us: the word is enough.
    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        for span in occurrences(invocation.tokens.clone(), "unsafe") {
            self.needs_comment("code in a macro", span);
        }
    }
}

#[cfg(test)]
#[path = "unsafety_tests.rs"]
mod tests;
