// Histogram: the counts of the next digit, among the keys that agree with the threshold as far as it is known. They are the candidates, where `sift`
// has collected them, and else sought in another read of everything.
//
// Grid       one workgroup per `fold` parts of each contest. Candidates take the first few of them, and a lane then every (256 * workgroups)th candidate
//            of this slice; else a lane takes every 256th word of a part
// Reads      the candidates' keys, and for the last digit their entries; or every weight once
// Writes     nothing per entry; at its end a workgroup adds its non-zero bins to the contest's tally, and for the last digit those of each span of parts
//            are counted, so that ties can be ranked without another read
// Barriers   around candidates, or around each part
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
    let mine = my_fold(id, grid);
    let group = mine.group;
    if (group >= params.groups) {
        return;
    }
    if (lane == 0u) {
        wg_record = records[group];
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.digits == params.digits) {
        return;
    }
    if (record.sifted != 0u) {
        if (mine.number < params.refiners) {
            clear_bins(lane);
            count_candidates(group, mine.number, record, lane);
            workgroupBarrier();
            for (var bin = lane; bin < LOW_BINS; bin += LANES) {
                tally_add(group, bin, atomicLoad(&wg_bins[bin]));
            }
        }
        return;
    }
    let last = record.digits + 1u == params.digits;
    for (var part = mine.first; part < mine.end; part += 1u) {
        let range = range_of(group, part);
        clear_bins(lane);
        count_digit(range.first, range.end, record.threshold, record.left, lane);
        workgroupBarrier();
        let my_bins = (group * params.all_spans + params.first_span + part / params.span) * LOW_BINS;
        for (var bin = lane; bin < LOW_BINS; bin += LANES) {
            let count = atomicLoad(&wg_bins[bin]);
            tally_add(group, bin, count);
            if (last && count != 0u) {
                atomicAdd(&span_bins[my_bins + bin], count);
            }
        }
        workgroupBarrier();
    }
}

// Uniform flow; a barrier behind.
fn clear_bins(lane: u32) {
    for (var bin = lane; bin < LOW_BINS; bin += LANES) {
        atomicStore(&wg_bins[bin], 0u);
    }
    workgroupBarrier();
}
