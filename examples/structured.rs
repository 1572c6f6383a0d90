//! Which neurons of a layer are worth keeping: rows as wholes, and nodes of a Kolmogorov-Arnold network by their importance.
//!
//!     cargo run --example structured

use emprune::{Granularity, Groups, Norm, Pruner, Rule, Structure, TensorMut};

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

    // A KAN layer has a spline on every edge, here of four coefficients. An edge matters as much as the mean magnitude of its
    // coefficients, and a node as much as the strongest of its edges, in or out.
    let mut incoming = [
        [[0.8f32, -0.9, 1.0, -0.7], [0.1, 0.1, -0.2, 0.0]],
        [[-0.6, 0.8, 0.7, 0.7], [0.9, -1.0, 0.8, 0.9]],
        [[0.02, 0.0, -0.03, 0.01], [0.0, 0.01, 0.0, -0.02]],
    ]; // node by input
    let mut outgoing = [[[0.5f32, 0.4, -0.6, 0.5], [0.6, 0.7, -0.5, 0.6], [0.03, -0.04, 0.02, 0.03]]]; // output by node
    let edge = |coefficients: &[f32; 4]| coefficients.iter().map(|c| c.abs()).sum::<f32>() / 4.0;
    let importance: Vec<f32> = (0..3)
        .map(|node| incoming[node].iter().chain(outgoing.iter().map(|to| &to[node])).map(edge).fold(0.0, f32::max))
        .collect();
    // A node owns its row of the first layer, and of the second the columns of its coefficients: both go, or both stay.
    let groups = [Groups::Rows(&[0, 1, 2]), Groups::Columns(&[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])];
    let layers = &mut [
        TensorMut::from(incoming.as_flattened_mut().as_flattened_mut()).with_row_len(8)?,
        TensorMut::from(outgoing.as_flattened_mut().as_flattened_mut()).with_row_len(12)?,
    ];
    let rule = Rule::new().with_granularity(Granularity::Global);
    let given = Norm::Given(&[&importance, &importance]);
    let (_, masks) = Pruner::best().prune_structures(layers, Structure::Groups(&groups), given, &rule)?;
    let kept: Vec<u64> = (0..3).filter(|&node| masks[0].get(node)).collect();
    println!("nodes that stay: {kept:?}, of importance {importance:?}");
    assert_eq!(kept, [0, 1]);
    assert_eq!(
        (incoming[2], outgoing[0][2]),
        ([[0.0; 4]; 2], [0.0; 4]),
        "the edges of the others are zero, in and out"
    );
    Ok(())
}
