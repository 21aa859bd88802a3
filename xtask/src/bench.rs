//! `cargo xtask bench <name>`: the benchmarks by name.

mod boot;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::Outcome;
use crate::process;
use crate::workspace::Workspace;

/// The benchmarks: each is a binary of that name in the bench crate.
const BENCHMARKS: [&str; 5] = ["attach", "block", BOOT, "net", "ring"];
/// The one that needs KVM, and an emulated host that counts instructions.
const BOOT: &str = "boot";

/// The command line of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which benchmark
    #[arg(value_parser = PossibleValuesParser::new(BENCHMARKS))]
    name: String,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// Runs one benchmark in the release profile, its output unchanged.
pub(crate) fn run(options: &Options) -> Result<Outcome> {
    if options.name == BOOT {
        return boot::run(options.json);
    }
    let mut command = process::cargo(&Workspace::load()?.root);
    command.args(["run", "--release", "--locked", "--package", "vioduct-bench"]);
    command.args(["--bin", &options.name, "--"]).args(options.json.then_some("--json"));
    let status = command.status()?;
    Ok(if status.success() { Outcome::Done } else { Outcome::Failed })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::Cli;

    #[test]
    fn an_unknown_benchmark_is_a_usage_error_with_the_nearest_name() {
        let error = Cli::try_parse_from(["xtask", "bench", "rings"]).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("a similar value exists: 'ring'"), "{error}");
    }
}
