// Histogram: the counts of the next digit, among the keys that agree with the prefix found so far.
//
// Grid       one workgroup per part of each contest; a lane takes every 256th word of the part
// Reads      every weight once
// Writes     nothing per entry; at its end a workgroup adds its non-zero bins to the contest's tally, and for the last digit to
//            those of its span of parts, so that ties can be ranked without another read
// Barriers   three
// Rust twin  src/cpu/histogram.rs

// Last-digit counts of every span: LOW_BINS words each.
@group(0) @binding(5) var<storage, read_write> span_bins: array<atomic<u32>>;

var<workgroup> wg_bins: array<atomic<u32>, LOW_BINS>;
var<workgroup> wg_record: Record;

@compute @workgroup_size(LANES)
fn histogram(
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
    }
    for (var bin = lane; bin < LOW_BINS; bin += LANES) {
        atomicStore(&wg_bins[bin], 0u);
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.sifted != 0u || record.digits == params.digits) {
        return;
    }
    count_digit(range.first, range.end, record.prefix, digit_shift(record.digits), lane);
    workgroupBarrier();
    let last = record.digits + 1u == params.digits;
    let span = params.first_span + range.part / params.span;
    let my_bins = (range.group * params.all_spans + span) * LOW_BINS;
    for (var bin = lane; bin < LOW_BINS; bin += LANES) {
        let count = atomicLoad(&wg_bins[bin]);
        tally_add(range.group, bin, count);
        if (last && count != 0u) {
            atomicAdd(&span_bins[my_bins + bin], count);
        }
    }
}
