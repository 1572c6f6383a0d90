//! Pruning against a memcpy of the same bytes and against the obvious ways in Rust, in one run: read the ratios, not the times.
//!
//!     cargo bench                      # 10^7 entries
//!     EMPRUNE_BENCH_LEN=100000000 cargo bench -- whole
//!
//! Every answer is checked before it is timed. `benches/README.md` says how to read what comes out.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use emprune::{Beta, Decision, Granularity, Pruner, Rule, TensorMut};
use half::bf16;
use std::hint::black_box;

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

/// What the same number of bytes costs without any thought: all cores copy a part.
fn memcpy<T: Copy + Send + Sync>(to: &mut [T], from: &[T]) {
    let half = from.len() / 2;
    let (a, b) = to.split_at_mut(half);
    std::thread::scope(|scope| {
        scope.spawn(|| a.copy_from_slice(&from[..half]));
        b.copy_from_slice(&from[half..]);
    });
}

/// Sums in f64 and `select_nth_unstable` on a copy of the magnitudes: the best of the obvious ways. Ties are all kept.
fn by_select_nth(weights: &mut [f32]) -> usize {
    let (mut sum, mut squares) = (0.0, 0.0);
    for &w in weights.iter() {
        sum += f64::from(w.abs());
        squares += f64::from(w) * f64::from(w);
    }
    let kept = (sum * sum / squares) as usize;
    let mut keys: Vec<u32> = weights.iter().map(|w| w.abs().to_bits()).collect();
    let (_, &mut threshold, _) = keys.select_nth_unstable_by(kept - 1, |a, b| b.cmp(a));
    zero_below(weights, threshold);
    kept
}

/// The same with a full sort.
fn by_sort(weights: &mut [f32]) -> usize {
    let (mut sum, mut squares) = (0.0, 0.0);
    for &w in weights.iter() {
        sum += f64::from(w.abs());
        squares += f64::from(w) * f64::from(w);
    }
    let kept = (sum * sum / squares) as usize;
    let mut keys: Vec<u32> = weights.iter().map(|w| w.abs().to_bits()).collect();
    keys.sort_unstable_by(|a, b| b.cmp(a));
    zero_below(weights, keys[kept - 1]);
    kept
}

fn zero_below(weights: &mut [f32], threshold: u32) {
    for w in weights.iter_mut() {
        *w = if w.abs().to_bits() >= threshold { *w } else { 0.0 };
    }
}

fn prune(pruner: &Pruner, weights: &mut [f32], row_len: usize, rule: &Rule) -> Decision {
    let tensor = TensorMut::from(weights).with_row_len(row_len as u64).expect("a row length that divides");
    pruner.prune(&mut [tensor], rule).expect("finite weights")
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

fn whole(c: &mut Criterion) {
    let len = len();
    let data = normal(len);
    let mut group = c.benchmark_group(format!("whole f32 {len}"));
    group.throughput(Throughput::Bytes(4 * len as u64)).sample_size(10);
    let mut copy = data.clone();
    group.bench_function("memcpy", |b| b.iter(|| memcpy(black_box(&mut copy), black_box(&data))));
    let fresh = || data.clone();
    group.bench_function("select_nth_unstable", |b| {
        b.iter_batched_ref(fresh, |w| by_select_nth(w), BatchSize::LargeInput);
    });
    group.bench_function("sort_unstable", |b| b.iter_batched_ref(fresh, |w| by_sort(w), BatchSize::LargeInput));
    for pruner in pruners() {
        let (mut ours, mut theirs) = (data.clone(), data.clone());
        let decision = prune(&pruner, &mut ours, len, &Rule::new());
        assert_eq!(decision.kept(), by_select_nth(&mut theirs) as u64, "both ways keep as many of normal weights");
        assert!(ours == theirs, "and the same ones");
        group.bench_function(pruner.backend().to_string(), |b| {
            b.iter_batched_ref(fresh, |w| prune(&pruner, w, len, &Rule::new()), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn inputs(c: &mut Criterion) {
    let len = len();
    let data = normal(len);
    let pruner = Pruner::cpu();
    let inputs: [(&str, Vec<f32>); 5] = [
        ("lognormal s=4", data.iter().map(|x| (4.0 * x).exp()).collect()),
        ("int8 levels", data.iter().map(|x| (x * 32.0).round()).collect()),
        ("all equal", vec![0.5; len]),
        ("90 % zeros", data.iter().enumerate().map(|(i, &x)| if i % 10 == 0 { x } else { 0.0 }).collect()),
        ("normal", data),
    ];
    let mut group = c.benchmark_group(format!("inputs f32 {len}"));
    group.throughput(Throughput::Bytes(4 * len as u64)).sample_size(10);
    for (name, data) in &inputs {
        let kept = prune(&pruner, &mut data.clone(), len, &Rule::new()).kept();
        assert!(kept >= 1 && (*name != "all equal" || kept == len as u64), "{name} keeps {kept}");
        group.bench_function(*name, |b| {
            b.iter_batched_ref(|| data.clone(), |w| prune(&pruner, w, len, &Rule::new()), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn rows(c: &mut Criterion) {
    let len = 1 << 22;
    let data = normal(len);
    let pruner = Pruner::cpu();
    let rule = Rule::new().with_granularity(Granularity::Row);
    let mut group = c.benchmark_group(format!("rows f32 {len}"));
    group.throughput(Throughput::Bytes(4 * len as u64)).sample_size(10);
    let mut copy = data.clone();
    group.bench_function("memcpy", |b| b.iter(|| memcpy(black_box(&mut copy), black_box(&data))));
    for row_len in [16, 64, 256, 1024, 4096, 65536] {
        let decision = prune(&pruner, &mut data.clone(), row_len, &rule);
        assert_eq!(decision.groups().len(), len / row_len, "one contest a row");
        group.bench_function(format!("of {row_len}"), |b| {
            b.iter_batched_ref(|| data.clone(), |w| prune(&pruner, w, row_len, &rule), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn half_width(c: &mut Criterion) {
    let len = len();
    let data: Vec<bf16> = normal(len).into_iter().map(bf16::from_f32).collect();
    let pruner = Pruner::cpu();
    let rule = Rule::new().with_beta(Beta::ONE);
    let mut group = c.benchmark_group(format!("whole bf16 {len}"));
    group.throughput(Throughput::Bytes(2 * len as u64)).sample_size(10);
    let mut copy = data.clone();
    group.bench_function("memcpy", |b| b.iter(|| memcpy(black_box(&mut copy), black_box(&data))));
    group.bench_function("cpu", |b| {
        b.iter_batched_ref(
            || data.clone(),
            |w| pruner.prune(&mut [w.into()], &rule).expect("finite weights"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, whole, inputs, rows, half_width);
criterion_main!(benches);
