//! Which neurons of a layer are worth keeping: rows as wholes, and nodes of a Kolmogorov-Arnold network by their importance.
//!
//!     cargo run --example structured

use emprune::{Norm, Pruner, Rule, Structure, TensorMut, mask};

fn main() -> Result<(), emprune::Error> {
    // A linear layer of six neurons with four inputs each; two of them do next to nothing.
    let mut layer = [
        [0.9f32, -0.8, 0.7, 1.0],
        [0.01, 0.02, -0.01, 0.0],
        [-1.1, 0.9, 0.8, -0.7],
        [1.0, 1.0, -0.9, 0.8],
        [0.03, -0.02, 0.0, 0.01],
        [-0.7, 0.8, 1.2, 0.9],
    ];
    let weights = TensorMut::from(layer.as_flattened_mut()).with_row_len(4)?;
    let (decision, masks) = Pruner::best().prune_structures(&mut [weights], Structure::Row, Norm::L2, &Rule::new())?;
    let kept: Vec<u64> = (0..6).filter(|&row| masks[0].get(row)).collect();
    println!("neurons that stay: {kept:?} (N_eff {:.2} of 6)", decision.groups()[0].n_eff);
    assert_eq!(kept, [0, 2, 3, 5]);
    assert!(layer[1].iter().all(|w| w.to_bits() == 0), "the others are zero, so a layer can be cut to the rows above");

    // A KAN layer has a spline on every edge. A node matters as much as the strongest of its edges, in or out, and an edge as
    // much as the mean magnitude of its coefficients. Scores of one's own need no weights: only the mask is wanted.
    let incoming = [[0.8f32, 0.1], [0.7, 0.9], [0.02, 0.01]]; // node by input
    let outgoing = [[0.5f32, 0.6, 0.03]]; // output by node
    let importance: Vec<f32> = (0..3)
        .map(|node| incoming[node].iter().copied().chain(outgoing.iter().map(|to| to[node])).fold(0.0, f32::max))
        .collect();
    let (_, nodes) = mask(&importance, &Rule::new())?;
    let kept: Vec<u64> = (0..3).filter(|&node| nodes.get(node)).collect();
    println!("nodes that stay: {kept:?}");
    assert_eq!(kept, [0, 1]);
    Ok(())
}
