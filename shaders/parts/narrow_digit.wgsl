// One more digit of the threshold: the bin in which the count from the top reaches the rank.
//
// Rust twin: src/narrow.rs

const BINS_PER_LANE: u32 = TALLY_SUM / LANES;
const RUNS: u32 = LANES / 16u;

// 64-bit sums, one per lane and one per 16 lanes.
var<workgroup> wg_sums: array<vec2<u32>, LANES>;
var<workgroup> wg_run_sums: array<vec2<u32>, RUNS>;
var<workgroup> wg_record: Record;
// The digit that was found.
var<workgroup> wg_digit: u32;

// A lane's bins: how many keys are in each, the highest first, in all of them, and in those of the lanes before it, of which the first has the top. No array
// within a struct: see parts/count.wgsl.
var<private> my_counts: array<vec2<u32>, BINS_PER_LANE>;
var<private> my_count: vec2<u32>;
var<private> my_above: vec2<u32>;

// From the contest's counters to what a lane knows of them: half of a step, for which no rank need be known. Uniform flow; barriers inside.
fn count_bins(group: u32, lane: u32) {
    my_count = vec2<u32>(0u);
    for (var i = 0u; i < BINS_PER_LANE; i += 1u) {
        my_counts[i] = bin_count(group, top_bin(lane) - i);
        my_count = add_64(my_count, my_counts[i]);
    }
    my_above = sum_before(my_count, lane);
}

// The other half: to `wg_record`, whose rank before is given; the counters are clear afterwards. A barrier must follow.
fn narrow_digit(group: u32, before: vec2<u32>, lane: u32) {
    var rank = sub_64(before, my_above);
    if (less_64(my_above, before) && !less_64(my_count, rank)) {
        // The rank is among this lane's.
        var i = 0u;
        while (i < BINS_PER_LANE - 1u && less_64(my_counts[i], rank)) {
            rank = sub_64(rank, my_counts[i]);
            i += 1u;
        }
        set_digit(group, top_bin(lane) - i, my_counts[i], rank);
    }
    for (var bin = lane; bin < TALLY_SUM; bin += LANES) {
        let at = (group * TALLY + bin) * 2u;
        atomicStore(&tally[at], 0u);
        atomicStore(&tally[at + 1u], 0u);
    }
}

// A lane's highest bin.
fn top_bin(lane: u32) -> u32 {
    return TALLY_SUM - 1u - lane * BINS_PER_LANE;
}

// The next digit, how many keys have it, and the rank among them.
fn set_digit(group: u32, digit: u32, count: vec2<u32>, rank: vec2<u32>) {
    wg_digit = digit;
    if (wg_record.digits == 0u) {
        let focus = atomicLoad(&tally[(group * TALLY + TALLY_FOCUS) * 2u]);
        wg_record.threshold = bin_first(digit, focus);
        wg_record.left = bin_bits(digit, focus);
        // The bin is counted exactly, so the candidates are known to fit before one is collected.
        wg_record.sifted = u32(!less_64(vec2<u32>(params.capacity, 0u), count));
    } else {
        wg_record.left = digit_shift(wg_record.left);
        wg_record.threshold |= digit << wg_record.left;
    }
    wg_record.digits += 1u;
    if (wg_record.digits == params.digits) {
        wg_record.left = 0u; // the lowest bits of shorter numbers are zeros
    }
    wg_record.rank = rank;
    wg_record.cut_span = NO_CUT;
    // Where they are as many as the rank all ties are kept.
    wg_record.cut_rank = u32(any(count != rank));
}

// The sum of what the lanes before this one bring. Uniform flow; barriers inside.
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
