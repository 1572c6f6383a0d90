//! See `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    emprune_cli::main()
}
