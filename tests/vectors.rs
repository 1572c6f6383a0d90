//! The golden vectors, on every backend: kept, mask and threshold exactly, `n_eff` and mass to one unit in the last place,
//! the certificate never above the exact one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::float_cmp, reason = "exact is what is asked for")]

mod common;

use common::check::{Outcome, check_ulp, run};
use common::golden::{self, Case};
use common::oracle::Contests;
use common::{Named, cpu};
use emprune::Group;

#[test]
fn on_the_cpu() {
    check_all(cpu());
}

#[cfg(feature = "gpu")]
#[test]
fn on_every_gpu() {
    check_all(common::gpus());
}

fn check_all(backends: &[Named]) {
    let (single, global) = golden::cases();
    assert_eq!((single.len(), global.len()), (76, 4), "cases in the file");
    for backend in backends {
        for case in single.iter().chain(&global) {
            let got = run(backend, &case.tensors, &case.question);
            let got = got.unwrap_or_else(|error| panic!("{} refuses {}: {error:?}", backend.name, case.name));
            check(case, &got).unwrap_or_else(|wrong| panic!("{} on {}: {wrong}", backend.name, case.name));
        }
    }
}

fn check(case: &Case, got: &Outcome) -> Result<(), String> {
    let want = &case.want;
    let equal = |what: &str, got: u64, want: u64| {
        if got == want { Ok(()) } else { Err(format!("{what} is {got}, must be {want}")) }
    };
    equal("kept", got.kept, want.kept)?;
    for (t, (mask, sha256)) in got.masks.iter().zip(&want.mask_sha256).enumerate() {
        if &golden::sha256(mask) != sha256 {
            return Err(format!("the mask of tensor {t} is another one"));
        }
        let kept: u64 = mask.iter().map(|b| u64::from(b.count_ones())).sum();
        equal("kept of one tensor", kept, want.kept_per_tensor[t])?;
        let zeros = zeros(&got.pruned[t], case.tensors[t].kind.size()) as u64;
        if zeros < case.tensors[t].len() as u64 - kept {
            return Err(format!("tensor {t} has {zeros} zeros after pruning, and keeps {kept}"));
        }
    }
    let kept = || got.groups.iter().map(|g| g.kept);
    let counts = want.kept_per_row.as_ref().is_none_or(|want| kept().eq(want.iter().copied()));
    let hash = want.kept_per_row_sha256.as_ref().is_none_or(|want| &golden::sha256_of_counts(kept()) == want);
    if !(counts && hash) {
        return Err("the counts per row are others".to_owned());
    }
    if let Some(want) = &want.contests {
        equal("the number of contests", got.groups.len() as u64, want.len() as u64)?;
        for (i, (want, got)) in want.iter().zip(&got.groups).enumerate() {
            check_group(want, got).map_err(|wrong| format!("contest {i}: {wrong}"))?;
        }
    }
    if let Some(want) = &want.rows {
        let least = |f: fn(&Group) -> f64| got.groups.iter().map(f).fold(f64::INFINITY, f64::min);
        let most = |f: fn(&Group) -> f64| got.groups.iter().map(f).fold(0.0, f64::max);
        check_ulp("the least n_eff", least(|g| g.n_eff), want.n_eff[0])?;
        check_ulp("the largest n_eff", most(|g| g.n_eff), want.n_eff[1])?;
        check_ulp("the least mass", least(|g| g.mass), want.least_mass)?;
        let thresholds = [least(|g| g.threshold.into()) as f32, most(|g| g.threshold.into()) as f32];
        if thresholds.map(f32::to_bits) != want.threshold.map(f32::to_bits) {
            return Err(format!("the thresholds span {thresholds:?}, must span {:?}", want.threshold));
        }
        equal("degenerate", got.groups.iter().filter(|g| g.degenerate).count() as u64, want.degenerate)?;
    }
    let contests = match case.question.contests {
        Contests::Global => 1,
        Contests::Tensor => case.tensors.len(),
        Contests::Row => case.tensors.iter().map(|t| t.len() / t.row_len).sum(),
        other => unreachable!("{other:?} is not recorded"),
    };
    equal("the number of contests", got.groups.len() as u64, contests as u64)
}

fn check_group(want: &golden::Contest, got: &Group) -> Result<(), String> {
    if (got.len, got.kept, got.degenerate) != (want.len, want.kept, want.degenerate) {
        return Err(format!("{got:?}, must be {want:?}"));
    }
    if got.threshold.to_bits() != want.threshold.to_bits() {
        return Err(format!("threshold is {:e}, must be {:e}", got.threshold, want.threshold));
    }
    check_ulp("n_eff", got.n_eff, want.n_eff)?;
    check_ulp("mass", got.mass, want.mass)?;
    // What is recorded is the exact certificate rounded to nearest, so it may be an ulp above what it stands for, or below.
    if !(want.mass_bound - 1e-12..=want.mass_bound.next_up()).contains(&got.mass_bound) {
        return Err(format!("the bound is {:?}, must be at most {:?}", got.mass_bound, want.mass_bound));
    }
    Ok(())
}

fn zeros(bytes: &[u8], size: usize) -> usize {
    bytes.chunks_exact(size).filter(|entry| entry.iter().all(|&b| b == 0)).count()
}
