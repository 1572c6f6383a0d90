//! Scores of your own without a file: which pixels of a picture stand out, channel by channel or patch by patch.
//!
//! The score of a pixel is its distance from the mean. Pixels are integers, so for `n` of them it is exactly
//! `|n * pixel - sum| / n`; both sides are below 2^24 here, so they are exact as f32, and their quotient is the f32 nearest to it.
use emprune::{Error, Granularity, Pruner, Rule, Tensor};

const SIDE: usize = 64;
const PATCH: usize = 16;

/// A bright disc on a soft gradient.
fn pixel(x: usize, y: usize) -> u8 {
    let (dx, dy) = (x.abs_diff(44), y.abs_diff(20));
    if dx * dx + dy * dy < 100 { 230 } else { (40 + x / 2 + y / 4) as u8 }
}

/// One score per pixel.
fn scores(pixels: &[u8]) -> Vec<f32> {
    let (n, sum) = (pixels.len() as u32, pixels.iter().map(|&pixel| u32::from(pixel)).sum::<u32>());
    assert!(n <= 1 << 16, "larger products are no exact f32: divide integers then");
    pixels.iter().map(|&pixel| (n * u32::from(pixel)).abs_diff(sum) as f32 / n as f32).collect()
}

fn main() -> Result<(), Error> {
    let pruner = Pruner::best();
    let channel: Vec<u8> = (0..SIDE * SIDE).map(|at| pixel(at % SIDE, at / SIDE)).collect();

    // The channel as one contest: the scores are the tensor, and the answer is a mask.
    let scores_of_all = scores(&channel);
    let (decision, masks) = pruner.mask(&[Tensor::from(&scores_of_all)], &Rule::new())?;
    let contest = decision.groups()[0];
    println!("on {}", pruner.backend());
    println!("channel: {} of {} pixels kept, N_eff {:.1}", contest.kept, contest.len, contest.n_eff);
    for y in (0..SIDE).step_by(4) {
        let line = (0..SIDE).step_by(2).map(|x| if masks[0].get((y * SIDE + x) as u64) { '#' } else { '.' });
        println!("  {}", line.collect::<String>());
    }

    // Patch by patch, with a mean each: patches become the rows of a tensor, and each row is a contest.
    let corners = (0..SIDE).step_by(PATCH).flat_map(|top| (0..SIDE).step_by(PATCH).map(move |left| (left, top)));
    let patch =
        |(left, top)| -> Vec<u8> { (0..PATCH * PATCH).map(|at| pixel(left + at % PATCH, top + at / PATCH)).collect() };
    let rows: Vec<f32> = corners.flat_map(|corner| scores(&patch(corner))).collect();
    let tensor = Tensor::from(&rows).with_row_len((PATCH * PATCH) as u64)?;
    let (decision, _) = pruner.mask(&[tensor], &Rule::new().with_granularity(Granularity::Row))?;
    println!("patches of {PATCH} x {PATCH}: {} of {} pixels kept", decision.kept(), decision.entries());
    for line in decision.groups().chunks(SIDE / PATCH) {
        println!("  {}", line.iter().map(|patch| format!("{:5.1}", patch.n_eff)).collect::<String>());
    }
    Ok(())
}
