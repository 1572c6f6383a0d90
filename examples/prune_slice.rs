//! A slice in, zeros out: no device to open, no number to choose.
//!
//! How many weights survive is not set by hand; it is the effective number of the weights themselves. `prune` takes the best
//! backend of the machine, and which one that is makes no difference to the answer.
use emprune::{Error, Rule, prune};

fn main() -> Result<(), Error> {
    // Any f32, f16 or bf16 will do; these fade away like the tail of a sound.
    let mut weights: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin() * (-i as f32 / 200.0).exp()).collect();

    let decision = prune(&mut weights, &Rule::new())?;

    let group = decision.groups()[0];
    println!("{} of {} weights are kept: N_eff is {:.2}", group.kept, group.len, group.n_eff);
    println!("they hold {:.2} % of the sum of magnitudes,", 100.0 * group.mass);
    println!("and with this N_eff no weights could have held less than {:.2} %", 100.0 * group.mass_bound);
    assert_eq!(weights.iter().filter(|w| **w != 0.0).count() as u64, group.kept, "the others are zero now");
    Ok(())
}
