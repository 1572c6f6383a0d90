// Narrow: one more digit of the threshold. The digit is the bin in which the count from the top reaches the rank. After the last digit: the span
// of parts in which the last kept tie lies.
//
// Grid       one workgroup per contest
// Reads      the contest's histogram; at the end one counter per span
// Writes     the contest's record; clears the histogram for the next digit
// Barriers   four
// Rust twin  src/narrow.rs; src/cpu/contest.rs (`cut`)

// Last-digit counts of every span: LOW_BINS words each.
@group(0) @binding(5) var<storage, read_write> span_bins: array<u32>;

const BINS_PER_LANE: u32 = BINS / LANES;

// 64-bit sums, one per lane.
var<workgroup> wg_sums: array<vec2<u32>, LANES>;
var<workgroup> wg_record: Record;

@compute @workgroup_size(LANES)
fn narrow(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = id.x + id.y * grid.x;
    if (group >= params.groups) {
        return;
    }
    if (lane == 0u) {
        wg_record = records[group];
    }
    if (workgroupUniformLoad(&wg_record).digits == params.digits) {
        return;
    }
    var sum = vec2<u32>(0u);
    for (var i = 0u; i < BINS_PER_LANE; i += 1u) {
        sum = add_64(sum, bin_count(group, lane * BINS_PER_LANE + i));
    }
    wg_sums[lane] = sum;
    workgroupBarrier();
    if (lane == 0u) {
        find_digit(group);
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.digits == params.digits) {
        // The spans in runs, a run for each lane.
        let run = (params.all_spans + LANES - 1u) / LANES;
        var ties = vec2<u32>(0u);
        for (var span = lane * run; span < min((lane + 1u) * run, params.all_spans); span += 1u) {
            ties = add_64(ties, vec2<u32>(span_ties(group, span, record.prefix), 0u));
        }
        wg_sums[lane] = ties;
        workgroupBarrier();
        if (lane == 0u) {
            find_cut(group, run);
        }
    }
    for (var bin = lane; bin < BINS; bin += LANES) {
        let at = (group * TALLY + bin) * 2u;
        atomicStore(&tally[at], 0u);
        atomicStore(&tally[at + 1u], 0u);
    }
    if (lane == 0u) {
        records[group] = wg_record;
    }
}

fn find_digit(group: u32) {
    var rank = wg_record.rank;
    // From the top: first the lane whose bins hold the rank, then the bin.
    var owner = LANES - 1u;
    while (owner > 0u && less_64(wg_sums[owner], rank)) {
        rank = sub_64(rank, wg_sums[owner]);
        owner -= 1u;
    }
    var digit = owner * BINS_PER_LANE + BINS_PER_LANE - 1u;
    while (digit > owner * BINS_PER_LANE && less_64(bin_count(group, digit), rank)) {
        rank = sub_64(rank, bin_count(group, digit));
        digit -= 1u;
    }
    if (wg_record.digits == 0u) {
        wg_record.prefix = digit;
        // The bin is counted exactly, so the candidates are known to fit before one is collected.
        wg_record.sifted = u32(!less_64(vec2<u32>(params.capacity, 0u), bin_count(group, digit)));
    } else {
        wg_record.prefix = (wg_record.prefix << LOW_BITS) | digit;
    }
    wg_record.threshold = wg_record.prefix << digit_shift(wg_record.digits);
    wg_record.digits += 1u;
    wg_record.rank = rank;
    wg_record.cut_span = NO_CUT;
    if (all(bin_count(group, digit) == rank)) {
        // All ties are kept.
        wg_record.cut_rank = 0u;
    } else {
        wg_record.cut_rank = 1u;
    }
}

// After the last digit, with the ties of each run of spans in `wg_sums`.
fn find_cut(group: u32, run: u32) {
    if (wg_record.cut_rank == 0u) {
        return;
    }
    var rank = wg_record.rank;
    var owner = 0u;
    while (owner < LANES - 1u && less_64(wg_sums[owner], rank)) {
        rank = sub_64(rank, wg_sums[owner]);
        owner += 1u;
    }
    var span = owner * run;
    while (span < params.all_spans - 1u && less_64(vec2<u32>(span_ties(group, span, wg_record.prefix), 0u), rank)) {
        rank = sub_64(rank, vec2<u32>(span_ties(group, span, wg_record.prefix), 0u));
        span += 1u;
    }
    wg_record.cut_span = span;
    wg_record.cut_rank = rank.x;
}

fn bin_count(group: u32, bin: u32) -> vec2<u32> {
    let at = (group * TALLY + bin) * 2u;
    return vec2<u32>(atomicLoad(&tally[at]), atomicLoad(&tally[at + 1u]));
}

fn span_ties(group: u32, span: u32, prefix: u32) -> u32 {
    return span_bins[(group * params.all_spans + span) * LOW_BINS + (prefix & (LOW_BINS - 1u))];
}

fn add_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + u32(low < b.x));
}

fn sub_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - u32(a.x < b.x));
}

fn less_64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}
