// Refine: the histogram of the next digit, among candidates alone. Stands in for `histogram` where `sift` has collected them.
//
// Grid       a fixed number of workgroups per contest; a lane takes every (256 * workgroups)th candidate of this slice
// Reads      the candidates' keys; for the last digit their entries too
// Writes     nothing per candidate; at its end a workgroup adds its non-zero bins to the contest's tally
// Barriers   three
// Rust twin  src/cpu/histogram.rs

// Last-digit counts of every span: LOW_BINS words each.
@group(0) @binding(5) var<storage, read_write> span_bins: array<atomic<u32>>;

var<workgroup> wg_bins: array<atomic<u32>, LOW_BINS>;
var<workgroup> wg_record: Record;

@compute @workgroup_size(LANES)
fn refine(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = id.x + id.y * grid.x;
    let group = number / params.refiners;
    if (group >= params.groups) {
        return;
    }
    if (lane == 0u) {
        wg_record = records[group];
    }
    for (var bin = lane; bin < LOW_BINS; bin += LANES) {
        atomicStore(&wg_bins[bin], 0u);
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.sifted == 0u || record.digits == params.digits) {
        return;
    }
    let shift = digit_shift(record.digits);
    let last = record.digits + 1u == params.digits;
    let first = first_candidate(group);
    let end = first + atomicLoad(&candidates[count_at(group, params.slice)]);
    my_bin = 0u;
    my_count = 0u;
    for (var i = first + (number % params.refiners) * LANES + lane; i < end; i += params.refiners * LANES) {
        let slot = candidate_at(group, i);
        let key = atomicLoad(&candidates[slot]);
        if ((key >> (shift + LOW_BITS)) == record.prefix) {
            let bin = (key >> shift) & (LOW_BINS - 1u);
            count_in(bin);
            if (last) {
                let span = span_of(group, atomicLoad(&candidates[slot + params.capacity]));
                atomicAdd(&span_bins[(group * params.all_spans + span) * LOW_BINS + bin], 1u);
            }
        }
    }
    end_run();
    workgroupBarrier();
    for (var bin = lane; bin < LOW_BINS; bin += LANES) {
        tally_add(group, bin, atomicLoad(&wg_bins[bin]));
    }
}
