//! Numbers that a statistician knows without computing them.

use approx::{assert_abs_diff_eq, assert_relative_eq};
use emprune::{Beta, Pruner, Rule, Tensor};

/// Quantiles of a distribution at the middles of `n` equal steps: its shape without chance.
fn quantiles(n: usize, quantile: impl Fn(f64) -> f64) -> Vec<f32> {
    (0..n).map(|i| quantile((i as f64 + 0.5) / n as f64) as f32).collect()
}

fn n_eff_over_n(scores: &[f32]) -> f64 {
    let (decision, _) = Pruner::cpu().mask(&[Tensor::from(scores)], &Rule::new()).expect("finite scores");
    let contest = decision.groups()[0];
    assert!(contest.mass_bound <= contest.mass, "a certificate is a bound");
    contest.n_eff / contest.len as f64
}

#[test]
fn the_effective_share_of_well_known_distributions() {
    let n = 100_000;
    assert_relative_eq!(n_eff_over_n(&quantiles(n, |u| u)), 0.75, max_relative = 1e-6);
    assert_relative_eq!(n_eff_over_n(&quantiles(n, |u| -(1.0 - u).ln())), 0.5, max_relative = 1e-3);
    // Half-normal, by bisection of the error function's integral: 2 / pi.
    let mut area = 0.0;
    let (mut x, step) = (0.0f64, 1e-4);
    let mut half_normal = Vec::new();
    while half_normal.len() < 20_000 && x < 6.0 {
        area += (-x * x / 2.0).exp() * step * (2.0 / std::f64::consts::PI).sqrt();
        x += step;
        while area > (half_normal.len() as f64 + 0.5) / 20_000.0 {
            half_normal.push(x as f32);
        }
    }
    assert_relative_eq!(n_eff_over_n(&half_normal), 2.0 / std::f64::consts::PI, max_relative = 2e-3);
}

#[test]
fn the_certificate_is_reached_by_the_worst_vector() {
    // One large entry and n - 1 equal ones keep the least mass of all vectors with their effective number.
    let mut worst = vec![1.0f32; 1000];
    worst[17] = 60.0;
    for beta in [0.5, 1.0, 1.5] {
        let rule = Rule::new().with_beta(Beta::new(beta).expect("a beta"));
        let (decision, _) = Pruner::cpu().mask(&[Tensor::from(&worst)], &rule).expect("finite scores");
        let contest = decision.groups()[0];
        assert!(contest.mass_bound <= contest.mass, "beta {beta}");
        assert_abs_diff_eq!(contest.mass_bound, contest.mass, epsilon = 1e-12);
    }
}
