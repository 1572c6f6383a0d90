//! The program `emprune`: arguments to a command, its outcome to an exit code.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod apply;
mod args;
mod backend;
mod bench;
mod checkpoint;
mod demo;
mod destination;
mod devices;
mod diff;
mod image;
mod interrupt;
mod job;
mod journal;
mod masks;
mod norms;
mod output;
mod patterns;
mod picture;
mod pixels;
mod positioned;
mod progress;
mod prune;
mod recipe;
mod report;
mod safetensors;
mod select;
mod sink;
mod table;
mod verify;
mod weights;

use anyhow::Result;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A command line that cannot be meant. Exit code 2, as for those that clap finds.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::happened() => {
            eprintln!("error: interrupted");
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            // One line, whatever the parts say: for logs.
            eprintln!("error: {}", format!("{error:#}").replace('\n', " "));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Prune(args) => prune::run(&args.job, &args.files, Some(&args.output)),
        Command::Inspect(args) => {
            if let Some(output) = &args.output {
                eprintln!("note: inspect writes no weights; {} is left as it is", output.display());
            }
            prune::run(&args.job, &args.files, None)
        }
        Command::Verify(args) => verify::run(args),
        Command::Apply(args) => apply::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Image(args) => image::run(args),
        Command::Devices(args) => devices::run(args.json),
        Command::Bench(args) => bench::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Schema(args) => print(args.command.schema()),
        Command::Completions(args) => {
            let mut text = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "emprune", &mut text);
            print(&text)
        }
    }
}

/// Write to stdout. A reader that has seen enough, such as `head`, is no error: the work is done.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}
