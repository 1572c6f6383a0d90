// Stats: the exact sums of scores and of their squares, and the histogram of the first digit of their keys.
//
// Grid       one workgroup per part of each contest; a lane takes every 256th word of the part
// Reads      every weight once (4 bytes an entry of f32, 2 of f16 and bf16), and again from a cache those that fit no window
// Writes     nothing per entry; at its end a workgroup adds its non-zero bins and digits to the contest's tally
// Barriers   seven per 512 entries a lane, two around; for bf16 ten in all
// Leaves     tally: histogram of the first digit, digits of both sums; first_bad: the first score that is no number
// Rust twin  src/cpu/stats.rs

var<private> my_slice_of_group: u32;

@compute @workgroup_size(LANES)
fn stats(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let range = my_range(id, grid);
    if (range.group >= params.groups) {
        return;
    }
    my_slice_of_group = range.group * params.slices + params.slice;
    clear_digits(lane);
    for (var bin = lane; bin < BINS; bin += LANES) {
        atomicStore(&wg_bins[bin], 0u);
    }
    workgroupBarrier();
    first_read(range.first, range.end, lane);
    for (var bin = lane; bin < BINS; bin += LANES) {
        tally_add(range.group, bin, atomicLoad(&wg_bins[bin]));
    }
    for (var i = lane; i < DIGITS; i += LANES) {
        tally_add(range.group, TALLY_SUM + i, atomicLoad(&wg_digits[i]));
    }
}

fn note_bad(word: u32) {
    atomicMax(&first_bad[my_slice_of_group], word);
}
