//! The program `emprune`: arguments to a command, its outcome to an exit code. A library so that fuzz targets reach its
//! readers; for everybody else there is [`main`].
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

mod apply;
mod args;
mod backend;
mod bad_entry;
mod bench;
mod beside;
mod checkpoint;
mod demo;
mod destination;
mod devices;
mod diff;
mod events;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod histogram;
mod image;
mod imatrix;
mod input;
mod interrupt;
mod job;
mod journal;
mod lines;
mod masks;
mod names;
mod norms;
mod output;
mod overlap;
mod patterns;
mod picture;
mod pixels;
mod plot;
mod positioned;
mod progress;
mod prune;
mod recipe;
mod report;
mod safetensors;
mod select;
mod selected;
mod settings;
mod sink;
mod ssim;
mod structures;
mod table;
mod unfinished;
mod values;
mod verify;
mod weights;

use anyhow::{Context, Result};
use args::{Cli, Command, InspectArgs, PruneArgs};
use clap::{CommandFactory, Parser};
use clap_mangen::Man;
use output::{Mode, NewFile};
use std::env;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
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

/// Do what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return refuse(&refused),
    };
    // Every shard takes two files. Where there may be no more, opening one says so.
    #[cfg(unix)]
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let is_for_machines = match &cli.command {
        Command::Prune(PruneArgs { files, .. }) | Command::Inspect(InspectArgs { files, .. }) => files.report.json,
        Command::Apply(args) => args.report.json,
        Command::Image(args) => args.report.json,
        Command::Diff(args) => args.json,
        Command::Devices(args) => args.json,
        Command::Bench(args) => args.json,
        Command::Demo(args) => args.json,
        _ => false,
    };
    if is_for_machines {
        events::for_machines();
    }
    match start_threads().and_then(|()| run(&cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if interrupt::is(&error) => {
            events::failed("interrupted", interrupt::EXIT_CODE);
            ExitCode::from(interrupt::EXIT_CODE)
        }
        Err(error) => {
            // One line, whatever the parts say: for logs. After a signal too what has failed may be something else.
            let code = match error.is::<Usage>() {
                true => 2,
                false if interrupt::happened() => interrupt::EXIT_CODE,
                false => 1,
            };
            events::failed(&format!("{error:#}").replace('\n', " "), code);
            ExitCode::from(code)
        }
    }
}

/// Print what the parser has to say: help, or what is wrong, which machines are told as well.
fn refuse(refused: &clap::Error) -> ExitCode {
    // That nobody can be told is no reason for another exit code.
    let _ = refused.print();
    let code = u8::try_from(refused.exit_code()).unwrap_or(2);
    let is_for_machines = || env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if code != 0 && is_for_machines() {
        events::for_machines();
        let text = refused.to_string();
        // What follows the first paragraph is about how to use it.
        let lines: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
        let message = lines.join(" ");
        events::failed(message.strip_prefix("error: ").unwrap_or(&message), code);
    }
    ExitCode::from(code)
}

/// One for each processor, or as many as RAYON_NUM_THREADS says. Where there may be no more threads, whoever asked for the first piece of work would panic.
fn start_threads() -> Result<()> {
    let started = rayon::ThreadPoolBuilder::new().build_global();
    started.context("cannot start threads; a limit on processes may be in the way (ulimit -u)")
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Prune(args) => prune::run(&args.job, &args.files, Some(&args.output)),
        Command::Inspect(args) => {
            if let Some(output) = &args.output {
                events::note(&format!("inspect writes no weights; {} is left as it is", output.display()));
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
        Command::Man(args) => man(args.directory.as_deref()),
    }
}

/// The pages of all commands into a directory, in the place of earlier ones, or the program's own to stdout.
fn man(directory: Option<&Path>) -> Result<()> {
    let Some(directory) = directory else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        return print(&page);
    };
    let write = || {
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let pages = pages(command);
        let paths: Vec<PathBuf> = pages.iter().map(|page| directory.join(page.get_filename())).collect();
        output::check(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &[], &[], true)?;
        let mut files = Vec::new();
        for (page, path) in pages.iter().zip(&paths) {
            let new = NewFile::create(path)?;
            new.permit_as(Mode::PUBLIC);
            let mut text = Vec::new();
            page.render(&mut text)?;
            new.file().write_all(&text)?;
            files.push(new);
        }
        output::flush(&files.iter().collect::<Vec<_>>(), &[])?.commit(files, vec![], true)
    };
    write().with_context(|| format!("cannot write to {}", directory.display()))
}

/// The pages of a command's commands, and its own.
fn pages(command: clap::Command) -> Vec<Man> {
    let inner = command.get_subcommands().filter(|inner| !inner.is_hide_set()).cloned();
    let mut all: Vec<Man> = inner.flat_map(pages).collect();
    all.push(Man::new(command));
    all
}

/// Write to stdout. A reader that has seen enough, such as `head`, is no error: the work is done.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    print_with(|out| out.write_all(bytes))
}

/// The same of what is written piece by piece.
pub(crate) fn print_with(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = write(&mut out).and_then(|()| out.flush());
    // What is left is not to be tried once more.
    drop(out.into_parts());
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("cannot write to the standard output"),
        _ => Ok(()),
    }
}
