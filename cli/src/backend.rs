//! `--backend`, `--adapter` and `--gpu-variant`: who does the work.

use crate::Usage;
use crate::events;
use anyhow::Result;
use clap::{Args, ValueEnum};
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

/// The shaders of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VariantChoice {
    /// Subgroup where the adapter has subgroups, else portable
    Auto,
    /// What WebGPU guarantees everywhere
    Portable,
    /// Lanes of a subgroup add up among themselves first
    Subgroup,
}

#[cfg(feature = "gpu")]
impl From<VariantChoice> for emprune::gpu::Variant {
    fn from(choice: VariantChoice) -> Self {
        match choice {
            VariantChoice::Auto => Self::Auto,
            VariantChoice::Portable => Self::Portable,
            VariantChoice::Subgroup => Self::Subgroup,
        }
    }
}

/// This part of the memory is for weights on a device that has none of its own: the candidates of a contest take half as much again.
#[cfg(feature = "gpu")]
const SHARED: u64 = 8;

/// Who does the work, and who takes over when that fails.
pub(crate) struct Workers {
    first: Pruner,
    /// `auto` promises an answer, `gpu` a GPU's.
    may_fall_back: bool,
    fallback: OnceCell<Fallback>,
    cpu: Pruner,
}

/// Where and why the CPU took over.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fallback {
    /// The first tensor that it did.
    pub(crate) tensor: String,
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct BackendArgs {
    /// Who does the work; the answer is the same
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) backend: BackendChoice,

    /// Use the first adapter with this in its name, driver or backend; case does not count
    #[arg(long, value_name = "SUBSTRING")]
    pub(crate) adapter: Option<String>,

    /// Which shaders a GPU runs; the answer is the same
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) gpu_variant: VariantChoice,
}

impl BackendArgs {
    /// Options that contradict each other.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        if self.backend != BackendChoice::Cpu {
            Ok(())
        } else if self.adapter.is_some() {
            Err(Usage("--adapter is not for --backend cpu".into()))
        } else if self.gpu_variant != VariantChoice::Auto {
            Err(Usage("--gpu-variant is not for --backend cpu".into()))
        } else {
            Ok(())
        }
    }

    /// Open what was asked for, and say so where it is a processor that stands in for a GPU.
    /// It has to do with so much memory, if that is said.
    pub(crate) fn open(&self, memory: Option<u64>) -> Result<Pruner> {
        let pruner = match (self.backend, &self.adapter) {
            (BackendChoice::Cpu, _) => Pruner::cpu(),
            (BackendChoice::Auto, None) => self.best(memory)?,
            (BackendChoice::Gpu, _) | (BackendChoice::Auto, Some(_)) => self.gpu(true, memory)?,
        };
        if pruner.backend().is_software() {
            events::note(&format!("{} is a software adapter: the processor does the work of a GPU", pruner.backend()));
        }
        Ok(pruner)
    }

    /// Hardware if there is some, else the CPU. Hardware that cannot do what was asked for is an error; where nothing was, it is passed over.
    fn best(&self, memory: Option<u64>) -> Result<Pruner> {
        match self.gpu(false, memory) {
            Err(error) if self.gpu_variant == VariantChoice::Auto || is_no_adapter(&error) => Ok(Pruner::cpu()),
            result => result,
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu(&self, allow_software: bool, memory: Option<u64>) -> Result<Pruner> {
        let options = emprune::gpu::Options::new().with_software(allow_software);
        let mut options = options.with_variant(self.gpu_variant.into());
        options.max_shared_bytes = memory.map(|bytes| bytes / SHARED);
        let options = match &self.adapter {
            Some(part) => options.with_adapter(part),
            None => options,
        };
        Pruner::gpu(&options).map_err(|error| match error.kind() {
            ErrorKind::NoAdapter => anyhow::Error::new(error)
                .context("no GPU can be asked; without --backend gpu and --adapter the CPU does the work"),
            _ => error.into(),
        })
    }

    #[cfg(not(feature = "gpu"))]
    fn gpu(&self, _allow_software: bool, _memory: Option<u64>) -> Result<Pruner> {
        anyhow::bail!("no adapter: this program was built without GPU support")
    }
}

impl Workers {
    /// As [`BackendArgs::open`].
    pub(crate) fn open(args: &BackendArgs, memory: Option<u64>) -> Result<Self> {
        let first = args.open(memory)?;
        let may_fall_back = args.backend == BackendChoice::Auto && first.backend().name() != "cpu";
        Ok(Self { first, may_fall_back, fallback: OnceCell::new(), cpu: Pruner::cpu() })
    }

    /// Who was asked for.
    pub(crate) fn backend(&self) -> &Backend {
        self.first.backend()
    }

    /// Who works now.
    pub(crate) fn current(&self) -> &Pruner {
        if self.fallback.get().is_some() { &self.cpu } else { &self.first }
    }

    /// Where the CPU took over, if it did.
    pub(crate) fn fallback(&self) -> Option<&Fallback> {
        self.fallback.get()
    }

    /// Whether the CPU may yet take over.
    pub(crate) fn may_fall_back(&self) -> bool {
        self.may_fall_back && self.fallback.get().is_none()
    }

    /// Let the CPU take over from this tensor on, `what` in words, if the device is gone or too small, and say so. What is wrong with the shaders or with
    /// how they are used is a bug of this program, and no answer hides it.
    pub(crate) fn fall_back(&self, error: &Error, tensor: &str, what: &str) -> bool {
        use ErrorKind::{DeviceLost, Limit, OutOfMemory};
        if !self.may_fall_back() || !matches!(error.kind(), DeviceLost | Limit | OutOfMemory) {
            return false;
        }
        let reason = error.to_string().replace('\n', " ");
        let first = self.first.backend();
        events::warning(&format!("{first} failed at {what}: {reason}; the CPU goes on from there"));
        self.fallback.set(Fallback { tensor: tensor.to_owned(), reason }).is_ok()
    }
}

fn is_no_adapter(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::NoAdapter)
}

/// The shaders of a GPU, for the report.
pub(crate) fn variant(backend: &Backend) -> Option<&'static str> {
    match backend {
        #[cfg(feature = "gpu")]
        Backend::Gpu(adapter) => Some(adapter.variant),
        _ => None,
    }
}
