//! Random questions about random weights, as the differential test asks them of `Pruner`: what a job leaves is what the oracle says.

use crate::common::cases::{Size, case};
use crate::common::inputs::Rng;
use crate::common::oracle::{self, Contests};
use crate::common::small;
use crate::devices::turns;
use crate::task::ask_one;

#[test]
fn anything_that_a_job_can_be_asked() {
    let wanted = if small() { 20 } else { 120 };
    let (mut asked, mut seed) = (0, 0);
    let gpus = turns().count();
    while asked < wanted && gpus > 0 {
        seed += 1;
        assert!(seed < 100 * wanted, "hardly any case is one that can be asked");
        let case = case(&mut Rng(seed * 0x9e37_79b9), Size::Edges);
        let (tensors, question) = (&case.tensors[..], &case.question);
        // A job takes several slices as one contest alone, and no segments; the oracle takes its time.
        let slices = if question.contests == Contests::Global { tensors } else { &tensors[..1] };
        let len = slices.iter().map(|slice| slice.len()).sum::<usize>();
        let Ok(want) = oracle::answer(slices, question) else { continue };
        if question.contests == Contests::Segments || len > 5000 {
            continue;
        }
        let turn = turns().nth(asked as usize % gpus).expect("as many as were counted");
        ask_one(turn.gpu, slices, question, &want);
        asked += 1;
    }
}
