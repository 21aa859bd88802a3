//! Development tasks, run as `cargo xtask <task>`.
//!
//! Results go to stdout, progress and errors to stderr. Exit status: 0 done, 1 failed, 2 usage; that of the
//! program where a task runs one for its user.
//!
//! - [`mod@lint`]: formatting, clippy, documentation, and the house rules that no compiler checks.
//! - [`mod@test`]: fuzz smoke, every test, and the embedded labs, with one summary.
//! - [`mod@bench`]: the named benchmarks.
//! - [`mod@guest`]: kernels, drivers and programs for real guests.
//! - [`mod@rig`]: `vioduct` on a host with KVM, which is emulated where there is none.
//! - [`mod@picture`]: the data paths of a lab's report, drawn.

mod apt;
mod bench;
mod guest;
mod lint;
mod picture;
mod process;
mod rig;
mod source;
mod test;
mod tools;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How a task ended; the exit status follows from it (a usage error is clap's, status 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Failed,
    /// What the program that the task ran for its user ended with.
    Status(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed => Self::from(1),
            Outcome::Status(status) => Self::from(status),
        }
    }
}

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Vioduct development tasks")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check formatting, clippy, documentation and the house rules (CONTRIBUTING.md lists them)
    Lint,
    /// Fuzz every target briefly, run every test, run the embedded labs, and print one summary
    Test(test::Options),
    /// Run one benchmark by name
    Bench(bench::Options),
    /// Provision what real guests need: kernels, our drivers, a program, an initramfs
    Guest(guest::Options),
    /// Run `vioduct` on an emulated host with a real /dev/kvm
    Rig(rig::Options),
    /// Draw the data paths that the lab of vhost has measured, as SVG
    Picture(picture::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Lint => lint::run(),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Guest(options) => guest::run(&options),
        Task::Rig(options) => rig::run(&options),
        Task::Picture(options) => picture::run(&options),
    };
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Outcome::Failed.into()
        }
    }
}
