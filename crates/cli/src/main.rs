//! The `vioduct` command line: labs, devices to serve, and what this host can do.
//!
//! Results go to stdout, errors and progress to stderr. Exit status: 0 done, 1 failed, 2 usage.

mod args;
mod device;
mod doctor;
mod guests;
mod host;
mod host_instructions;
mod lab;
mod labs;
mod nearest;
mod registry;
mod report;
mod run;
mod serve;

use args::{Arguments, Command, DeviceCommand, LabCommand};
use clap::Parser;
use std::process::ExitCode;

/// Why a command ended without doing what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for something that there is not.
    Usage(String),
    /// It was tried and did not work.
    Failed(String),
}

impl Failure {
    /// What to tell the user.
    pub(crate) fn into_message(self) -> String {
        match self {
            Self::Usage(message) | Self::Failed(message) => message,
        }
    }
}

fn main() -> ExitCode {
    // Devices log through `tracing`; RUST_LOG is not read, so that a transcript is the same everywhere.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .with_target(false)
        .without_time()
        .init();
    let result = match Arguments::parse().command {
        Command::Lab(LabCommand::List(format)) => lab::list(format),
        Command::Lab(LabCommand::Run(options)) => lab::run(&options),
        Command::Run(options) => run::run(&options),
        Command::Serve(options) => serve::run(&options),
        Command::Device(DeviceCommand::List(format)) => device::list(format),
        Command::Doctor(format) => doctor::run(format),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("vioduct: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Failed(message)) => {
            eprintln!("vioduct: {message}");
            ExitCode::FAILURE
        }
    }
}
