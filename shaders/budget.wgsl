// Budget: from the exact sums to how many entries a contest keeps, on the device, so that nothing waits for the host; and the first digit of its threshold.
//
// Grid       one workgroup per contest; the arithmetic is one lane's
// Reads      the contest's tally, first_bad of its slices
// Writes     the contest's record: status, degenerate, kept, and what is known of the threshold; clears the histogram for the next digit
// Barriers   six
// Rust twin  src/budget.rs, src/decision.rs, src/narrow.rs

// Counters of both sums, loaded by all lanes at once: one lane would wait for memory at each.
const COUNTERS: u32 = TALLY_KEPT - TALLY_SUM;
var<workgroup> wg_counters: array<vec2<u32>, COUNTERS>;

@compute @workgroup_size(LANES)
fn budget(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = id.x + id.y * grid.x;
    if (group >= params.groups) {
        return;
    }
    for (var i = lane; i < COUNTERS; i += LANES) {
        let at = (group * TALLY + TALLY_SUM + i) * 2u;
        wg_counters[i] = vec2<u32>(atomicLoad(&tally[at]), atomicLoad(&tally[at + 1u]));
    }
    workgroupBarrier();
    if (lane == 0u) {
        decide(group);
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.digits < params.digits) {
        narrow_digit(group, record.rank, lane);
        workgroupBarrier();
    }
    if (lane == 0u) {
        records[group] = wg_record;
    }
}

fn decide(group: u32) {
    var record = Record();
    record.cut_span = NO_CUT;
    for (var slice = 0u; slice < params.slices && record.status == 0u; slice += 1u) {
        let word = atomicLoad(&first_bad[group * params.slices + slice]);
        if (word != 0u) {
            record.status = 1u + (~word & 3u);
            record.bad_slice = slice;
            record.bad_index = ~word >> 2u;
        }
    }
    let sum_top = canonical(0u, BIG_SUM, 24u);
    let square_top = canonical(TALLY_SQUARE - TALLY_SUM, BIG_SQUARE, 44u);
    record = with_budget(record, keep_count(sum_top, square_top, params.contest_len), params.contest_len);
    if (record.status != 0u) {
        record.digits = params.digits; // there is nothing to find
    }
    wg_record = record;
}

// Counters to digits of 16 bits, carries spread. Returns the number of the highest that is not zero, or NO_DIGIT.
fn canonical(counter: u32, out: u32, len: u32) -> u32 {
    var carry = vec2<u32>(0u);
    var top = NO_DIGIT;
    for (var i = 0u; i < len; i += 1u) {
        let count = wg_counters[counter + i];
        let low = count.x + carry.x;
        let high = count.y + carry.y + u32(low < carry.x);
        wg_big[out + i] = low & 0xffffu;
        if ((low & 0xffffu) != 0u) {
            top = i;
        }
        carry = vec2<u32>((low >> 16u) | (high << 16u), high >> 16u);
    }
    return top;
}
