//! One contest per row, and a report of each: what a weight matrix of five very different neurons keeps.
//!
//! Rows are what a layer's outputs see: with one contest per row no output can starve another of its weights. The rows here
//! are chosen so that their effective numbers are known beforehand.
use emprune::{Beta, Error, Granularity, Pruner, Rule, Tensor};
use std::f32::consts::TAU;

const COLUMNS: usize = 4096;

/// What fills a row, and what to expect of it.
type Row = (&'static str, fn(usize) -> f32);

const ROWS: [Row; 5] = [
    ("equal: all of them count", |i| if i % 2 == 0 { 0.5 } else { -0.5 }),
    ("a wave: 8 / pi^2 of them", |i| (i as f32 * TAU / COLUMNS as f32).sin()),
    ("a ramp: three in four", |i| i as f32 + 0.5),
    ("one above a floor: hardly two", |i| if i == 1234 { 100.0 } else { 0.01 }),
    ("zeros: nothing to choose by", |_| 0.0),
];

fn main() -> Result<(), Error> {
    let weights: Vec<f32> = ROWS.iter().flat_map(|(_, entry)| (0..COLUMNS).map(entry)).collect();
    let tensor = Tensor::from(&weights).with_row_len(COLUMNS as u64)?;

    // A hardware adapter if there is one, else the CPU; the numbers below are the same on either, bit for bit.
    let pruner = Pruner::best();
    println!("on {}", pruner.backend());

    // `mask` decides and leaves the weights alone, so the same rows can be asked twice. A beta below one keeps fewer: the
    // certificate says how much mass that can cost at most.
    for beta in [Beta::ONE, Beta::ratio(1, 2)?] {
        let rule = Rule::new().with_granularity(Granularity::Row).with_beta(beta);
        let (decision, masks) = pruner.mask(&[tensor], &rule)?;

        println!("\nbeta {}, {} of {} weights kept", beta.get(), decision.kept(), decision.entries());
        println!("{:<30}{:>10}{:>7}{:>9}{:>9}{:>12}", "row", "N_eff", "kept", "mass", "bound", "threshold");
        for ((name, _), row) in ROWS.iter().zip(decision.groups()) {
            // A row of zeros has no order: it is kept whole, and says so.
            let note = if row.degenerate { "  degenerate" } else { "" };
            println!(
                "{name:<30}{:>10.2}{:>7}{:>9.4}{:>9.4}{:>12.4e}{note}",
                row.n_eff, row.kept, row.mass, row.mass_bound, row.threshold
            );
        }
        assert_eq!(masks[0].kept(), decision.kept(), "the mask has a bit for every kept weight");
    }
    Ok(())
}
