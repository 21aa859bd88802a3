//! What the checks of the driver's words cost: our device end in two programs, one of them built without its checks, taking
//! turns.
//!
//! What cannot be left out stays in both: a buffer's address is translated, which finds whether it is in memory at all.

use crate::device_end;
use crate::guest::{SHAPES, Shape};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use vioduct_virtqueue::RingFormat;

/// The other contender, as rows name it.
pub const PEER: &str = "without checks";

/// What each program can run.
#[must_use]
pub fn cases() -> Vec<(String, RingFormat, Shape)> {
    let of = |(format, name): (RingFormat, &str)| {
        SHAPES.map(|shape| (format!("checks: {name}, {}", shape.name), format, shape))
    };
    [(RingFormat::Split, "split"), (RingFormat::Packed, "packed")].into_iter().flat_map(of).collect()
}

/// Builds this program without the checks; returns where it is.
///
/// # Errors
/// If it cannot be built.
pub fn build_unchecked() -> Result<PathBuf> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the bench crate is in the workspace")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = root.join(target).join("unchecked");
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--locked", "--package", "vioduct-bench", "--bin", "ring"])
        .env("RUSTFLAGS", "--cfg vioduct_unchecked")
        .env("CARGO_TARGET_DIR", &target)
        .stdout(std::io::stderr())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cannot build the benchmark without checks: {status}");
    }
    Ok(target.join("release/ring"))
}

/// One of the two programs, which runs a window when told to.
pub struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    results: BufReader<ChildStdout>,
}

impl Program {
    /// Starts a program in [`serve`] mode.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(path: &Path) -> Result<Self> {
        let mut child = Command::new(path)
            .arg("--child")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        let orders = child.stdin.take();
        let results = BufReader::new(child.stdout.take().context("the child has no stdout pipe")?);
        Ok(Self { child, orders, results })
    }

    /// One window of a case; nanoseconds per operation.
    ///
    /// # Errors
    /// If the program has ended, or answers nonsense.
    pub fn window(&mut self, case: usize, length: Duration) -> Result<f64> {
        let orders = self.orders.as_mut().context("the child has no stdin pipe")?;
        writeln!(orders, "{case} {}", length.as_micros())?;
        let mut answer = String::new();
        self.results.read_line(&mut answer)?;
        answer.trim().parse().with_context(|| format!("the child answered {answer:?}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The child ends when its orders do.
        drop(self.orders.take());
        if let Err(error) = self.child.wait() {
            eprintln!("cannot wait for the child: {error}");
        }
    }
}

/// The child's side: a window for each line of stdin.
///
/// # Errors
/// If a line is not an order, or a pipe breaks.
pub fn serve() -> Result<()> {
    let mut contenders: Vec<_> =
        cases().into_iter().map(|(_, format, shape)| device_end::ours(format, shape)).collect();
    for line in std::io::stdin().lines() {
        let line = line?;
        let (case, micros) = line.split_once(' ').context("an order is a case and a length")?;
        let contender = contenders.get_mut(case.parse::<usize>()?).context("no such case")?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", contender.window(Duration::from_micros(micros.parse()?)))?;
        out.flush()?;
    }
    Ok(())
}
