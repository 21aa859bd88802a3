//! What `cargo metadata` says of this workspace.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process;

/// The workspace: its folder, its build folder and its member packages.
#[derive(Debug, Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    #[serde(rename = "target_directory")]
    pub(crate) build: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// One member package.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    manifest_path: PathBuf,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// One dependency as declared, not as resolved.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The package's real name, whatever it is renamed to.
    pub(crate) name: String,
    pub(crate) kind: Option<DependencyKind>,
}

/// `None` in the metadata means a normal dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DependencyKind {
    Dev,
    Build,
}

/// A library, binary, test, example or benchmark.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

impl Workspace {
    /// The folder of the workspace that this program was built from.
    pub(crate) fn folder() -> Result<&'static Path> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.parent().context("the xtask crate must lie in the workspace's folder")
    }

    /// Asks cargo about the workspace that this program was built from.
    pub(crate) fn load() -> Result<Self> {
        let mut command = process::cargo(Self::folder()?);
        command.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
        let json = process::capture(&mut command)
            .context("cannot read the workspace; if Cargo.lock is out of date, run `cargo check`")?;
        serde_json::from_str(&json).context("cargo metadata changed its format")
    }

    /// The folder of the fuzz targets: a workspace of its own.
    pub(crate) fn fuzz(&self) -> PathBuf {
        self.root.join("fuzz")
    }
}

impl Package {
    /// The package's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// The package's folder below the workspace's, with `/` between the parts.
    pub(crate) fn place(&self, root: &Path) -> String {
        relative(root, self.folder())
    }

    /// The manifest.
    pub(crate) fn manifest(&self) -> &Path {
        &self.manifest_path
    }
}

impl Target {
    /// The file of a library, or of a binary where that is the package's only root.
    pub(crate) fn is_library(&self) -> bool {
        self.kind.iter().any(|kind| kind == "lib" || kind == "rlib" || kind == "proc-macro")
    }

    /// Whether the target holds nothing but tests or benchmarks.
    pub(crate) fn is_test(&self) -> bool {
        self.kind.iter().any(|kind| kind == "test" || kind == "bench")
    }
}

/// `path` as it reads from `root`.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}
