//! `--backend` and `--adapter`: who does the work.

use crate::Usage;
use anyhow::Result;
use clap::ValueEnum;
use emprune::Pruner;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    /// A hardware adapter if there is one, else the CPU; with --adapter, a GPU
    Auto,
    /// The CPU
    Cpu,
    /// A GPU, or a software adapter where there is none
    Gpu,
}

/// Two options that contradict each other.
pub(crate) fn check(choice: BackendChoice, adapter: Option<&str>) -> Result<(), Usage> {
    let contradict = choice == BackendChoice::Cpu && adapter.is_some();
    if contradict { Err(Usage("--adapter is not for --backend cpu".into())) } else { Ok(()) }
}

/// Open what was asked for, and say so where it is a processor that stands in for a GPU.
pub(crate) fn open(choice: BackendChoice, adapter: Option<&str>) -> Result<Pruner> {
    let pruner = match (choice, adapter) {
        (BackendChoice::Cpu, _) => Pruner::cpu(),
        (BackendChoice::Auto, None) => Pruner::best(),
        (BackendChoice::Gpu, _) | (BackendChoice::Auto, Some(_)) => gpu(adapter)?,
    };
    if pruner.backend().is_software() {
        eprintln!("note: {} is a software adapter: the processor does the work of a GPU", pruner.backend());
    }
    Ok(pruner)
}

#[cfg(feature = "gpu")]
fn gpu(adapter: Option<&str>) -> Result<Pruner> {
    let options = emprune::gpu::Options::new().with_software(true);
    let options = match adapter {
        Some(part) => options.with_adapter(part),
        None => options,
    };
    Ok(Pruner::gpu(&options)?)
}

#[cfg(not(feature = "gpu"))]
fn gpu(_adapter: Option<&str>) -> Result<Pruner> {
    anyhow::bail!("no adapter: this program was built without GPU support")
}
