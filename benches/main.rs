//! Pruning against a memcpy of the same bytes and against the obvious ways in Rust, in one run: read the ratios, not the times.
//!
//!     cargo bench                      # 10^7 entries
//!     EMPRUNE_BENCH_LEN=100000000 cargo bench -- whole
//!
//! Every answer is checked before it is timed. `benches/README.md` says how to read what comes out.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use emprune::{Decision, Element, Granularity, Pruner, Rule, TensorMut};
use half::bf16;
use rayon::prelude::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

fn len() -> usize {
    std::env::var("EMPRUNE_BENCH_LEN").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_000)
}

/// Uniform in (0, 1]: SplitMix64.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64 + f64::EPSILON / 2.0
}

fn normal(len: usize) -> Vec<f32> {
    let mut state = 1;
    let one = |_| {
        let (radius, angle) = ((-2.0 * uniform(&mut state).ln()).sqrt(), std::f64::consts::TAU * uniform(&mut state));
        (radius * angle.cos()) as f32
    };
    (0..len).map(one).collect()
}

/// A change of a normal number, which has an index.
type Change = fn(f32, usize) -> f32;

const INPUTS: [(&str, Change); 5] = [
    ("normal", |x, _| x),
    ("lognormal s=4", |x, _| (4.0 * x).exp()),
    ("int8 levels", |x, _| (x * 32.0).round().clamp(-127.0, 127.0)),
    ("all equal", |_, _| 0.5),
    ("90 % zeros", |x, i| if i.is_multiple_of(10) { x } else { 0.0 }),
];

/// What the same number of bytes costs without any thought: all cores copy a part.
fn memcpy<T: Copy + Send + Sync>(to: &mut [T], from: &[T]) {
    let share = from.len().div_ceil(rayon::current_num_threads());
    to.par_chunks_mut(share).zip(from.par_chunks(share)).for_each(|(to, from)| to.copy_from_slice(from));
}

/// Sums in f64, then the k-th largest of the magnitudes, by whatever finds it. Ties are all kept.
fn obvious(weights: &mut [f32], find: fn(&mut [u32], usize) -> u32) -> usize {
    let (mut sum, mut squares) = (0.0, 0.0);
    for &w in weights.iter() {
        sum += f64::from(w.abs());
        squares += f64::from(w) * f64::from(w);
    }
    let kept = (sum * sum / squares) as usize;
    let mut keys: Vec<u32> = weights.iter().map(|w| w.abs().to_bits()).collect();
    let threshold = find(&mut keys, kept - 1);
    for w in weights.iter_mut() {
        *w = if w.abs().to_bits() >= threshold { *w } else { 0.0 };
    }
    kept
}

/// The best of the obvious ways.
fn by_select_nth(weights: &mut [f32]) -> usize {
    obvious(weights, |keys, k| *keys.select_nth_unstable_by(k, |a, b| b.cmp(a)).1)
}

fn by_sort(weights: &mut [f32]) -> usize {
    obvious(weights, |keys, k| {
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys[k]
    })
}

fn prune<T: Element>(pruner: &Pruner, weights: &mut [T], row_len: usize) -> Decision {
    // A row that is all there is would be looked at once more, for the sake of rows after it.
    let granularity = if row_len == weights.len() { Granularity::Tensor } else { Granularity::Row };
    let rule = Rule::new().with_granularity(granularity);
    let tensor = TensorMut::from(weights).with_row_len(row_len as u64).expect("a row length that divides");
    pruner.prune(&mut [tensor], &rule).expect("finite weights")
}

fn pruners() -> Vec<Pruner> {
    let mut pruners = vec![Pruner::cpu()];
    // A GPU with upload and mask readback; a software adapter would only time the processor again.
    pruners.extend(
        emprune::gpu::adapters()
            .iter()
            .filter(|a| !a.software)
            .filter_map(|adapter| Pruner::gpu(&emprune::gpu::Options::new().with_adapter(adapter.to_string())).ok()),
    );
    pruners
}

fn group<'c, T>(c: &'c mut Criterion, name: &str, data: &[T]) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(format!("{name} {}", data.len()));
    group.throughput(Throughput::Bytes(size_of_val(data) as u64)).sample_size(10);
    group
}

/// Time `work` on the same weights again and again: pruning destroys them, and what restores them is not timed.
fn time<T: Copy + Send + Sync, R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    data: &[T],
    work: impl Fn(&mut [T]) -> R,
) {
    let mut copy = data.to_vec();
    group.bench_function(name, |b| {
        b.iter_custom(|runs| {
            let one = |_| {
                memcpy(&mut copy, data);
                let start = Instant::now();
                black_box(work(black_box(&mut copy)));
                start.elapsed()
            };
            (0..runs).map(one).sum::<Duration>()
        });
    });
}

fn whole(c: &mut Criterion) {
    let data = normal(len());
    let mut group = group(c, "whole f32", &data);
    time(&mut group, "memcpy", &data, |copy| memcpy(copy, &data));
    time(&mut group, "select_nth_unstable", &data, by_select_nth);
    time(&mut group, "sort_unstable", &data, by_sort);
    for pruner in pruners() {
        let (mut ours, mut theirs) = (data.clone(), data.clone());
        let decision = prune(&pruner, &mut ours, data.len());
        assert_eq!(decision.kept(), by_select_nth(&mut theirs) as u64, "both ways keep as many of normal weights");
        assert!(ours == theirs, "and the same ones");
        time(&mut group, &pruner.backend().to_string(), &data, |w| prune(&pruner, w, data.len()));
    }
    group.finish();
}

/// Every input, as one contest and as rows of 4096.
fn inputs_of<T: Element + Send + Sync>(c: &mut Criterion, dtype: &str, of: fn(f32) -> T) {
    let normal = normal(len() / 4096 * 4096);
    let pruner = Pruner::cpu();
    for (contest, row_len) in [("tensor", normal.len()), ("rows of 4096", 4096)] {
        let mut group = group(c, &format!("inputs {dtype} {contest}"), &vec![of(0.0); normal.len()]);
        for (name, change) in INPUTS {
            let data: Vec<T> = normal.iter().enumerate().map(|(i, &x)| of(change(x, i))).collect();
            if name == "normal" {
                time(&mut group, "memcpy", &data, |copy| memcpy(copy, &data));
            }
            let decision = prune(&pruner, &mut data.clone(), row_len);
            assert_eq!(decision.groups().len(), data.len() / row_len, "one contest a row");
            assert_eq!(decision.kept() == data.len() as u64, name == "all equal", "{name} keeps {}", decision.kept());
            time(&mut group, name, &data, |w| prune(&pruner, w, row_len));
        }
        group.finish();
    }
}

fn inputs(c: &mut Criterion) {
    inputs_of(c, "f32", |x| x);
    inputs_of(c, "bf16", bf16::from_f32);
}

fn rows(c: &mut Criterion) {
    let data = normal(1 << 22);
    let pruner = Pruner::cpu();
    let mut group = group(c, "rows f32", &data);
    time(&mut group, "memcpy", &data, |copy| memcpy(copy, &data));
    for row_len in [16, 64, 256, 1024, 4096, 65536] {
        let decision = prune(&pruner, &mut data.clone(), row_len);
        assert_eq!(decision.groups().len(), data.len() / row_len, "one contest a row");
        time(&mut group, &format!("of {row_len}"), &data, |w| prune(&pruner, w, row_len));
    }
    group.finish();
}

criterion_group!(benches, whole, inputs, rows);
criterion_main!(benches);
