// Sift: carry out what the first digit decides. Entries above its bin are kept, entries below it lose; those in it are kept for now, and
// remembered as candidates. The second and last read of everything, where the bin is small; else this stage does nothing.
//
// Grid       one workgroup per part of each contest
// Reads      every weight once
// Writes     every word of weights that is the contest's alone, changed or not; a bit of the mask per entry; key and entry of each candidate
// Barriers   some in each tile, and around them
// Leaves     candidates; tally: the digits of the sum of what is kept for certain
// Rust twin  none: the CPU's second read is cheap enough to count with (src/cpu/histogram.rs)

var<workgroup> wg_record: Record;

@compute @workgroup_size(LANES)
fn sift(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let range = my_range(id, grid);
    if (range.group >= params.groups) {
        return;
    }
    if (lane == 0u) {
        wg_record = records[range.group];
        atomicStore(&wg_found, 0u);
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.sifted == 0u) {
        return;
    }
    my_first = first_candidate(range.group, lane);
    my_width = 1u << record.left;
    carry_out(range, record.threshold, 0xffffffffu, lane);
    workgroupBarrier();
    hand_over(range.group, 0u, lane);
    if (HAS_MASS && lane < SQUARE) {
        tally_add(range.group, TALLY_KEPT + lane, atomicLoad(&wg_digits[SUM + lane]));
    }
}
