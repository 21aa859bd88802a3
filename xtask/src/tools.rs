//! Cargo subcommands that the tasks need, installed at pinned versions into the project's cache.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// A tool from crates.io.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

pub(crate) const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };
pub(crate) const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2" };

/// Where what survives between runs is kept: `$VIODUCT_CACHE`, or `~/.cache/vioduct`.
pub(crate) fn cache() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("VIODUCT_CACHE").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("HOME").context("set HOME, or VIODUCT_CACHE to a folder to keep tools in")?;
    Ok(PathBuf::from(home).join(".cache/vioduct"))
}

impl Tool {
    /// The tool's program, installed first when it is absent.
    pub(crate) fn program(self) -> Result<PathBuf> {
        let folder = cache()?.join("tools").join(format!("{}-{}", self.name, self.version));
        let program = folder.join("bin").join(self.name);
        if !program.is_file() {
            self.install(&folder)?;
        }
        if !program.is_file() {
            bail!("{} was installed but {} does not exist", self.name, program.display());
        }
        Ok(program)
    }

    fn install(self, folder: &std::path::Path) -> Result<()> {
        eprintln!("installing {} {} (once) into {}", self.name, self.version, folder.display());
        let mut command = Command::new("cargo");
        command.args(["install", "--locked", self.name, "--version", self.version, "--root"]).arg(folder);
        // These tools wait for disks and compilers: a quick build is worth more than quick code.
        command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        command.env("CARGO_PROFILE_RELEASE_LTO", "off");
        command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "256");
        if !process::succeeds(&mut command)? {
            bail!(
                "cannot install {} {}: read cargo's message above; crates.io must be reachable and a C compiler present",
                self.name,
                self.version
            );
        }
        Ok(())
    }
}
