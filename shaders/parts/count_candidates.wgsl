// Counting a digit in `wg_bins` among candidates, and where in the contest those are that have the last one.
//
// Rust twin: src/cpu/histogram.rs

// Bins are clear; workgroup number `number` of `params.refiners`. Uniform flow; barriers inside, and one must follow.
fn count_candidates(group: u32, number: u32, record: Record, lane: u32) {
    my_bin = 0u;
    my_count = 0u;
    let shift = digit_shift(record.left);
    let last = record.digits + 1u == params.digits;
    let first = first_candidate(group, lane);
    let end = first + atomicLoad(&candidates[count_at(group, params.slice)]);
    let step = params.refiners * LANES;
    // Four at a time: a lane would wait for memory at each.
    for (var i = first + number * LANES + lane; i < end; i += 4u * step) {
        let numbers = vec4<u32>(i, i + step, i + 2u * step, i + 3u * step);
        let slots = candidate_at(group, 0u) + min(numbers, vec4<u32>(end - 1u));
        let keys = vec4<u32>(
            atomicLoad(&candidates[slots.x]),
            atomicLoad(&candidates[slots.y]),
            atomicLoad(&candidates[slots.z]),
            atomicLoad(&candidates[slots.w]),
        );
        for (var j = 0u; j < 4u; j += 1u) {
            let above = keys[j] - record.threshold;
            if (numbers[j] < end && above < (1u << record.left)) {
                let bin = above >> shift;
                count_in(bin);
                if (last) {
                    let span = span_of(group, atomicLoad(&candidates[slots[j] + params.capacity]));
                    atomicAdd(&span_bins[(group * params.all_spans + span) * LOW_BINS + bin], 1u);
                }
            }
        }
    }
    end_run();
}
