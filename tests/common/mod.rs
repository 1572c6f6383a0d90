//! What the tests share: the backends of this machine, inputs, the oracle, and the checks that compare the two.
//!
//! Environment:
//! * `EMPRUNE_NO_GPU=1` says that no GPU is wanted. Without it, a machine without an adapter fails the GPU tests.
//! * `EMPRUNE_TEST_ADAPTER=TEXT` takes only adapters with this text in their name, driver or backend.
//! * `EMPRUNE_TEST_VARIANT=portable|subgroup` takes these shaders; `subgroup` only adapters that can run them.
//! * `EMPRUNE_TEST_CHECKS=all` leaves every check in the shaders.
//! * `EMPRUNE_TEST_SIZE=small` runs every test, with fewer repetitions and less data, for drivers that take many times as long.
#![allow(dead_code, reason = "every test binary uses a part")]

pub(crate) mod cases;
pub(crate) mod check;
pub(crate) mod golden;
pub(crate) mod inputs;
pub(crate) mod oracle;
pub(crate) mod pieces;

use emprune::{Backend, Beta, Budget, Dtype, Granularity, Pruner, Rule, Score, Sparsity};
use oracle::{Contests, Keep, Kind, Question};
use std::sync::OnceLock;

/// Tests of these names, each a function of some backends, on the processor and on every GPU.
#[allow(unused_macros, reason = "two test binaries use it")]
macro_rules! per_backend {
    ($($test:ident)*) => {$(
        mod $test {
            #[test]
            fn cpu() {
                super::super::$test(super::super::cpu());
            }
            #[cfg(feature = "gpu")]
            #[test]
            fn gpu() {
                super::super::$test(super::super::common::gpus());
            }
        }
    )*};
}
#[allow(unused_imports, reason = "two test binaries use it")]
pub(crate) use per_backend;

/// A number that the caller of the tests gives.
pub(crate) fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{name} is {number}")))
}

/// Whether repetitions and bulk are to be left out.
pub(crate) fn small() -> bool {
    match std::env::var("EMPRUNE_TEST_SIZE").as_deref() {
        Ok("small") => true,
        Ok("full") | Err(_) => false,
        Ok(other) => panic!("EMPRUNE_TEST_SIZE is {other}"),
    }
}

/// A test has nothing to say here. Around the harness, which shows what a test prints only when it fails.
pub(crate) fn skipped(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// All of them; where tests are small every `n`-th, another one for each `turn`.
pub(crate) fn some<T: Copy>(all: &[T], n: usize, turn: usize) -> impl Iterator<Item = T> {
    let n = if small() { n } else { 1 };
    all.iter().copied().skip(turn % n).step_by(n)
}

/// A backend, opened once per process, and its name for whoever has to read the failure.
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) pruner: Pruner,
}

/// The processor.
pub(crate) fn cpu() -> &'static [Named] {
    static CPU: OnceLock<[Named; 1]> = OnceLock::new();
    CPU.get_or_init(|| {
        let pruner = Pruner::cpu();
        assert_eq!(pruner.backend().name(), "cpu", "who does the work");
        assert!(matches!(pruner.backend(), Backend::Cpu { .. }), "who does the work: {}", pruner.backend());
        [Named { name: pruner.backend().to_string(), pruner }]
    })
}

/// Which shaders are wanted, and what they check.
#[cfg(feature = "gpu")]
pub(crate) fn kernel_choices() -> (emprune::gpu::Variant, emprune::gpu::Checks) {
    use emprune::gpu::{Checks, Variant};
    let variant = match std::env::var("EMPRUNE_TEST_VARIANT").as_deref() {
        Ok("portable") => Variant::Portable,
        Ok("subgroup") => Variant::Subgroup,
        Ok("auto") | Err(_) => Variant::Auto,
        Ok(other) => panic!("EMPRUNE_TEST_VARIANT is {other}"),
    };
    let checks = match std::env::var("EMPRUNE_TEST_CHECKS").as_deref() {
        Ok("all") => Checks::All,
        Ok("proven") | Err(_) => Checks::Proven,
        Ok(other) => panic!("EMPRUNE_TEST_CHECKS is {other}"),
    };
    (variant, checks)
}

/// Every adapter there is, software ones too.
#[cfg(feature = "gpu")]
pub(crate) fn gpus() -> &'static [Named] {
    use emprune::gpu::{Adapter, Options, Variant, adapters};

    fn is(pruner: &Pruner, wanted: &Adapter) -> bool {
        let same = |a: &Adapter| (&a.name, &a.driver, &a.backend) == (&wanted.name, &wanted.driver, &wanted.backend);
        let variant = |a: &Adapter| kernel_choices().0 == Variant::Auto || a.variant == kernel_choices().0.name();
        matches!(pruner.backend(), Backend::Gpu(adapter) if same(adapter) && variant(adapter))
    }

    /// An adapter is asked for by a word, and two adapters may share one: the word that gives this one is looked for.
    fn open(adapter: &Adapter) -> Named {
        for word in [&adapter.name, &adapter.driver, &adapter.backend] {
            let (variant, checks) = kernel_choices();
            let options = Options::new().with_adapter(word.as_str()).with_software(true);
            let options = options.with_variant(variant).with_checks(checks);
            let pruner =
                Pruner::gpu(&options).unwrap_or_else(|error| panic!("adapter {adapter:?} by {word:?}: {error}"));
            assert_eq!(pruner.backend().name(), "gpu", "never another backend in disguise");
            if is(&pruner, adapter) {
                assert_eq!(pruner.backend().adapter(), Some(adapter.name.as_str()), "who does the work");
                assert_eq!(pruner.backend().is_software(), adapter.software, "what kind does the work");
                return Named { name: pruner.backend().to_string(), pruner };
            }
        }
        panic!("no word selects {adapter:?}");
    }

    static GPUS: OnceLock<Vec<Named>> = OnceLock::new();
    GPUS.get_or_init(|| {
        if std::env::var("EMPRUNE_NO_GPU").is_ok_and(|v| v == "1") {
            return Vec::new();
        }
        let part = std::env::var("EMPRUNE_TEST_ADAPTER").unwrap_or_default().to_lowercase();
        let fits = |text: &String| text.to_lowercase().contains(&part);
        let mut wanted: Vec<Adapter> = Vec::new();
        for adapter in adapters() {
            if kernel_choices().0 == Variant::Subgroup && adapter.variant != Variant::Subgroup.name() {
                continue;
            }
            let twin =
                |a: &Adapter| (&a.name, &a.driver, &a.backend) == (&adapter.name, &adapter.driver, &adapter.backend);
            if [&adapter.name, &adapter.driver, &adapter.backend].into_iter().any(fits) && !wanted.iter().any(twin) {
                wanted.push(adapter);
            }
        }
        assert!(!wanted.is_empty(), "no adapter with {part:?} here; EMPRUNE_NO_GPU=1 says that none is wanted");
        let gpus: Vec<Named> = wanted.iter().map(open).collect();
        for gpu in &gpus {
            // Around the harness, which shows what a test prints only when it fails: a log says who gave the answers.
            if let Backend::Gpu(adapter) = gpu.pruner.backend() {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "GPU tests on {adapter}, {} shaders", adapter.variant);
            }
        }
        gpus
    })
}

/// Without the feature there is none.
#[cfg(not(feature = "gpu"))]
pub(crate) fn gpus() -> &'static [Named] {
    &[]
}

/// The processor and every adapter.
pub(crate) fn backends() -> impl Iterator<Item = &'static Named> {
    cpu().iter().chain(gpus())
}

/// The library's word for a kind.
pub(crate) fn dtype(kind: Kind) -> Dtype {
    match kind {
        Kind::F32 => Dtype::F32,
        Kind::F16 => Dtype::F16,
        Kind::Bf16 => Dtype::Bf16,
        Kind::E4m3 => Dtype::F8E4m3,
        Kind::E5m2 => Dtype::F8E5m2,
    }
}

/// The library's word for a question.
pub(crate) fn rule(question: &Question) -> Rule {
    Rule::new()
        .with_score(match question {
            Question { given: true, .. } => Score::Given,
            Question { wanda: true, .. } => Score::Wanda,
            _ => Score::Magnitude,
        })
        .with_budget(match question.keep {
            Keep::Effective => Budget::Effective(Beta::new(question.beta).unwrap()),
            Keep::Count(count) => Budget::Count(count as u64),
            Keep::AllBut(part) => Budget::Sparsity(Sparsity::new(part).unwrap()),
        })
        .with_min_kept(question.least as u64)
        .with_granularity(match question.contests {
            Contests::Global => Granularity::Global,
            Contests::Tensor => Granularity::Tensor,
            Contests::Row => Granularity::Row,
            Contests::Column => Granularity::Column,
            Contests::Block(rows, columns) => Granularity::Block { rows: rows as u64, columns: columns as u64 },
            Contests::Heads(heads) => Granularity::Heads(heads as u64),
            Contests::Chunks(len) => Granularity::Chunks(len as u64),
            Contests::Segments => Granularity::Segments,
        })
}
