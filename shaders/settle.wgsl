// Settle: the candidates that lose are zeroed and leave the mask; the others join the sum of what is kept.
//
// Grid       a fixed number of workgroups per contest; a lane takes every (256 * workgroups)th candidate of this slice
// Reads      the candidates
// Writes     a word of weights and a word of the mask per loser, by atomics: candidates may share them
// Barriers   before and behind the candidates; for a mass after every 2048 of a lane, too
// Leaves     tally: the digits of the sum of kept scores
// Rust twin  src/cpu/apply.rs

@group(0) @binding(6) var<storage, read_write> mask: array<atomic<u32>>;

var<workgroup> wg_record: Record;

@compute @workgroup_size(LANES)
fn settle(
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
        wg_count = atomicLoad(&candidates[count_at(group, params.slice)]);
    }
    if (HAS_MASS) {
        clear_digits(lane);
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.sifted == 0u) {
        return;
    }
    let first = first_candidate(group, lane);
    let end = first + workgroupUniformLoad(&wg_count);
    var window = Window();
    let step = params.refiners * LANES;
    for (var round = first + (number % params.refiners) * LANES; round < end; round += step * SPREAD) {
        let steps = min(SPREAD, (end - round + step - 1u) / step);
        // Four at a time: a lane would wait for memory at each.
        for (var j = 0u; j < steps; j += 4u) {
            let i = round + j * step + lane + vec4<u32>(0u, step, 2u * step, 3u * step);
            let slots = candidate_at(group, 0u) + min(i, vec4<u32>(end - 1u));
            let keys = four_of_candidates(slots);
            let places = four_of_candidates(slots + params.capacity);
            for (var k = 0u; k < 4u; k += 1u) {
                if (i[k] >= end) {
                    continue;
                }
                let key = keys[k];
                let at = places[k];
                if (is_kept(record, group, key, at)) {
                    if (HAS_MASS) {
                        window_add(&window, key, false);
                    }
                } else {
                    drop_entry(at);
                    atomicAnd(&mask[at / 32u], ~(1u << (at % 32u)));
                }
            }
        }
        if (HAS_MASS) {
            windows_flush(&window);
            spread_carries(lane);
        }
    }
    workgroupBarrier();
    if (HAS_MASS && lane < SQUARE) {
        tally_add(group, TALLY_KEPT + lane, atomicLoad(&wg_digits[SUM + lane]));
    }
}

fn four_of_candidates(at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(
        atomicLoad(&candidates[at.x]),
        atomicLoad(&candidates[at.y]),
        atomicLoad(&candidates[at.z]),
        atomicLoad(&candidates[at.w]),
    );
}

var<workgroup> wg_count: u32;

fn is_kept(record: Record, group: u32, key: u32, at: u32) -> bool {
    if (key != record.threshold) {
        return key > record.threshold;
    }
    let span = span_of(group, at);
    return span < record.cut_span || (span == record.cut_span && at - group * params.group_len < record.cut_index);
}
