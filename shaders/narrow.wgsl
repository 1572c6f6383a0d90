// Narrow: one more digit of the threshold. The digit is the bin in which the count from the top reaches the rank. After the last digit: the span
// of parts in which the last kept tie lies.
//
// Grid       one workgroup per contest
// Reads      the contest's histogram; at the end one counter per span
// Writes     the contest's record; clears the histogram for the next digit
// Barriers   eleven
// Rust twin  src/narrow.rs; src/cpu/contest.rs (`cut`)

// Last-digit counts of every span: LOW_BINS words each.
@group(0) @binding(5) var<storage, read_write> span_bins: array<u32>;

const BINS_PER_LANE: u32 = BINS / LANES;
const RUNS: u32 = LANES / 16u;

// 64-bit sums, one per lane and one per 16 lanes.
var<workgroup> wg_sums: array<vec2<u32>, LANES>;
var<workgroup> wg_run_sums: array<vec2<u32>, RUNS>;
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
    let before = workgroupUniformLoad(&wg_record);
    if (before.digits == params.digits) {
        return;
    }
    // A lane's bins, the highest first, so that the lowest lane has the top.
    let top = BINS - 1u - lane * BINS_PER_LANE;
    var counts: array<vec2<u32>, BINS_PER_LANE>;
    var mine = vec2<u32>(0u);
    for (var i = 0u; i < BINS_PER_LANE; i += 1u) {
        counts[i] = bin_count(group, top - i);
        mine = add_64(mine, counts[i]);
    }
    let above = sum_before(mine, lane);
    var rank = sub_64(before.rank, above);
    if (less_64(above, before.rank) && !less_64(mine, rank)) {
        // The rank is among this lane's.
        var i = 0u;
        while (i < BINS_PER_LANE - 1u && less_64(counts[i], rank)) {
            rank = sub_64(rank, counts[i]);
            i += 1u;
        }
        set_digit(top - i, counts[i], rank);
    }
    let record = workgroupUniformLoad(&wg_record);
    if (record.digits == params.digits && record.cut_rank != 0u) {
        // Some ties lose. The spans in runs, a run for each lane.
        let run = (params.all_spans + LANES - 1u) / LANES;
        let end = min((lane + 1u) * run, params.all_spans);
        var ties = vec2<u32>(0u);
        for (var span = lane * run; span < end; span += 1u) {
            ties = add_64(ties, vec2<u32>(span_ties(group, span, record.prefix), 0u));
        }
        let earlier = sum_before(ties, lane);
        var left = sub_64(record.rank, earlier);
        if (less_64(earlier, record.rank) && !less_64(ties, left)) {
            var span = lane * run;
            var count = vec2<u32>(span_ties(group, span, record.prefix), 0u);
            while (span < end - 1u && less_64(count, left)) {
                left = sub_64(left, count);
                span += 1u;
                count.x = span_ties(group, span, record.prefix);
            }
            wg_record.cut_span = span;
            wg_record.cut_rank = left.x;
        }
        workgroupBarrier();
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

// The next digit, how many keys have it, and the rank among them.
fn set_digit(digit: u32, count: vec2<u32>, rank: vec2<u32>) {
    if (wg_record.digits == 0u) {
        wg_record.prefix = digit;
        // The bin is counted exactly, so the candidates are known to fit before one is collected.
        wg_record.sifted = u32(!less_64(vec2<u32>(params.capacity, 0u), count));
    } else {
        wg_record.prefix = (wg_record.prefix << LOW_BITS) | digit;
    }
    wg_record.threshold = wg_record.prefix << digit_shift(wg_record.digits);
    wg_record.digits += 1u;
    wg_record.rank = rank;
    wg_record.cut_span = NO_CUT;
    // Where they are as many as the rank all ties are kept.
    wg_record.cut_rank = u32(any(count != rank));
}

// The sum of what the lanes before this one bring. Uniform flow; three barriers.
fn sum_before(mine: vec2<u32>, lane: u32) -> vec2<u32> {
    workgroupBarrier();
    wg_sums[lane] = mine;
    workgroupBarrier();
    if (lane < RUNS) {
        var sum = vec2<u32>(0u);
        for (var i = 0u; i < 16u; i += 1u) {
            sum = add_64(sum, wg_sums[lane * 16u + i]);
        }
        wg_run_sums[lane] = sum;
    }
    workgroupBarrier();
    var sum = vec2<u32>(0u);
    for (var run = 0u; run < lane / 16u; run += 1u) {
        sum = add_64(sum, wg_run_sums[run]);
    }
    for (var other = lane / 16u * 16u; other < lane; other += 1u) {
        sum = add_64(sum, wg_sums[other]);
    }
    return sum;
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
