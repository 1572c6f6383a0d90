// Budget: from the exact sums to how many entries a contest keeps, on the device, so that nothing waits for the host; and the first digit of its threshold.
//
// Grid       one workgroup per contest; the budget itself is one lane's work
// Reads      the contest's tally, first_bad of its slices
// Writes     the contest's record: status, degenerate, kept, and what is known of the threshold; clears the histogram for the next digit
// Barriers   between its steps
// Rust twin  src/budget.rs, src/decision.rs, src/narrow.rs

// Counters of both sums, and what each digit of 16 bits gets of them.
const COUNTERS: u32 = TALLY_KEPT - TALLY_SUM;
var<workgroup> wg_counters: array<vec2<u32>, COUNTERS>;
var<workgroup> wg_pieces: array<u32, COUNTERS>;
var<workgroup> wg_digits: array<atomic<u32>, COUNTERS>;
// The first slice with a score that is no number, inverted: zero when there is none.
var<workgroup> wg_bad_slice: atomic<u32>;

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
    if (lane == 0u) {
        atomicStore(&wg_bad_slice, 0u);
    }
    // By all lanes at once: one lane would wait for memory at each.
    for (var i = lane; i < COUNTERS; i += LANES) {
        let at = (group * TALLY + TALLY_SUM + i) * 2u;
        wg_counters[i] = vec2<u32>(atomicLoad(&tally[at]), atomicLoad(&tally[at + 1u]));
    }
    count_bins(group, lane);
    for (var slice = lane; slice < params.slices; slice += LANES) {
        if (atomicLoad(&first_bad[group * params.slices + slice]) != 0u) {
            atomicMax(&wg_bad_slice, ~slice);
        }
    }
    spread_counters(lane);
    canonical(lane);
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
    let bad = atomicLoad(&wg_bad_slice);
    if (bad != 0u) {
        let word = atomicLoad(&first_bad[group * params.slices + ~bad]);
        record.status = 1u + (~word & 3u);
        record.bad_slice = ~bad;
        record.bad_index = ~word >> 2u;
    }
    record = with_budget(record, keep_count(params.contest_len), params.contest_len);
    if (record.status != 0u) {
        record.digits = params.digits; // there is nothing to find
    }
    wg_record = record;
}

// Counters of 64 bits to digits below 2^17: a digit gets 16 bits of its own counter and of each of the three below it, then what the digit below it
// has too much, which is three at most. Uniform flow; a barrier inside.
fn spread_counters(lane: u32) {
    for (var i = lane; i < COUNTERS; i += LANES) {
        var digit = wg_counters[i].x & 0xffffu;
        if (below(i) > 0u) {
            digit += wg_counters[i - 1u].x >> 16u;
        }
        if (below(i) > 1u) {
            digit += wg_counters[i - 2u].y & 0xffffu;
        }
        if (below(i) > 2u) {
            digit += wg_counters[i - 3u].y >> 16u;
        }
        wg_pieces[i] = digit;
    }
    workgroupBarrier();
    for (var i = lane; i < COUNTERS; i += LANES) {
        var digit = wg_pieces[i] & 0xffffu;
        if (below(i) > 0u) {
            digit += wg_pieces[i - 1u] >> 16u;
        }
        atomicStore(&wg_digits[i], digit);
    }
}

// How many digits of its sum lie below a digit.
fn below(i: u32) -> u32 {
    if (i < BIG_SQUARE) {
        return i;
    }
    return i - BIG_SQUARE;
}
