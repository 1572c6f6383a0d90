// Stats: the exact sums of scores and of their squares, and the histogram of the first digit of their keys.
//
// Grid       one workgroup per `fold` parts of each contest; a lane takes every 256th word of them, or every 256th four of words
// Reads      every weight once (4 bytes an entry of f32, 2 of f16 and bf16), and again from a cache those that fit no window
// Writes     nothing per entry; at its end a workgroup adds its non-zero bins and digits to the contest's tally
// Barriers   between its steps, and after every 2048 entries a lane; for bf16 between steps alone
// Leaves     tally: histogram of the first digit, digits of both sums; first_bad: the first score that is no number
// Rust twin  src/cpu/stats.rs

// Bins are all that `wg_bins` is for.
const LEAST_COUNTERS: u32 = 0u;
const MOST_STRAYS: u32 = 128u;
const MANY_SPREADS: bool = true;
var<private> my_group: u32;

@compute @workgroup_size(LANES)
fn stats(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // What a workgroup has counted it adds to the contest's, bin by bin: fewer of them take less time.
    let mine = my_fold(id, grid);
    let group = mine.group;
    if (group >= params.groups) {
        return;
    }
    let first = range_of(group, mine.first).first;
    let end = range_of(group, mine.end - 1u).end;
    // Of contests that begin at a multiple of 32, which most do not, the last part may be empty.
    if (first >= end) {
        return;
    }
    my_group = group;
    my_focus = atomicLoad(&tally[(group * TALLY + TALLY_FOCUS) * 2u]);
    clear_digits(lane);
    clear_sample(lane);
    for (var i = lane; i < COUNTERS; i += LANES) {
        atomicStore(&wg_bins[i], 0u);
    }
    workgroupBarrier();
    first_read(first, end, lane);
    finish_sums(first, end, lane);
    hand_in_bins(lane);
    for (var i = lane; i < DIGITS; i += LANES) {
        tally_add(group, TALLY_SUM + i, atomicLoad(&wg_digits[i]));
    }
}

// So many more keys in a bin.
fn count_in_bin(bin: u32, count: u32) {
    tally_add(my_group, bin, count);
}

// The contest's focus is everybody's.
fn set_focus(top: u32) {
}

fn note_bad(word: u32) {
    atomicMax(&first_bad[my_group * params.slices + params.slice], word);
}
