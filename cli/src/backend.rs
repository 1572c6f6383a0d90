//! `--backend` and `--adapter`: who does the work.

use crate::Usage;
use crate::events;
use anyhow::Result;
use clap::ValueEnum;
use emprune::{Backend, Error, ErrorKind, Pruner};
use serde::Serialize;
use std::cell::OnceCell;

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

/// Who does the work, and who takes over when that fails.
pub(crate) struct Workers {
    first: Pruner,
    /// `auto` promises an answer, `gpu` a GPU's.
    may_fall_back: bool,
    fallback: OnceCell<(Pruner, Fallback)>,
}

/// Where and why the CPU took over.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fallback {
    /// The first tensor that it did.
    pub(crate) tensor: String,
    pub(crate) reason: String,
}

/// Open what was asked for, and say so where it is a processor that stands in for a GPU.
pub(crate) fn open(choice: BackendChoice, adapter: Option<&str>) -> Result<Pruner> {
    let pruner = match (choice, adapter) {
        (BackendChoice::Cpu, _) => Pruner::cpu(),
        (BackendChoice::Auto, None) => Pruner::best(),
        (BackendChoice::Gpu, _) | (BackendChoice::Auto, Some(_)) => gpu(adapter)?,
    };
    if pruner.backend().is_software() {
        events::note(&format!("{} is a software adapter: the processor does the work of a GPU", pruner.backend()));
    }
    Ok(pruner)
}

impl Workers {
    /// As [`open`].
    pub(crate) fn open(choice: BackendChoice, adapter: Option<&str>) -> Result<Self> {
        let first = open(choice, adapter)?;
        let may_fall_back = choice == BackendChoice::Auto && first.backend().name() != "cpu";
        Ok(Self { first, may_fall_back, fallback: OnceCell::new() })
    }

    /// Who was asked for.
    pub(crate) fn backend(&self) -> &Backend {
        self.first.backend()
    }

    /// Who works now.
    pub(crate) fn current(&self) -> &Pruner {
        self.fallback.get().map_or(&self.first, |(cpu, _)| cpu)
    }

    /// Where the CPU took over, if it did.
    pub(crate) fn fallback(&self) -> Option<&Fallback> {
        self.fallback.get().map(|(_, fallback)| fallback)
    }

    /// Whether the CPU may yet take over.
    pub(crate) fn may_fall_back(&self) -> bool {
        self.may_fall_back && self.fallback.get().is_none()
    }

    /// Let the CPU take over from this tensor on, if the error is the device's own, and say so.
    pub(crate) fn fall_back(&self, error: &Error, tensor: &str) -> bool {
        use ErrorKind::{DeviceLost, Internal, Limit, OutOfMemory};
        if !self.may_fall_back() || !matches!(error.kind(), DeviceLost | Internal | Limit | OutOfMemory) {
            return false;
        }
        let reason = error.to_string().replace('\n', " ");
        let first = self.first.backend();
        events::warning(&format!("{first} failed at tensor {tensor:?}: {reason}; the CPU goes on from there"));
        self.fallback.set((Pruner::cpu(), Fallback { tensor: tensor.to_owned(), reason })).is_ok()
    }
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
