// Carrying out a final decision: there are no candidates.

const LIST: u32 = 0u;

fn collect(group: u32, tile: u32, flags: u32, lane: u32) {
}

// A barrier where the next tile needs one, unless sums of what is kept come next: they begin with one.
fn hand_over(group: u32, most: u32, lane: u32) {
    if (!HAS_MASS && params.mask != 0u) {
        workgroupBarrier();
    }
}
