// Rows: many contests in one slice, each by one workgroup from its first sum to its last mask bit. All stages in one dispatch.
//
// Grid       one workgroup per row, for rows that are too long for `teams`; a lane takes every LANES'th word of the row
// Reads      every weight twice, the second time from a cache that holds a row; four times where more than 512 entries share the first digit of the
//            threshold (three times for 16-bit weights)
// Writes     every word that loses something; a bit of the mask per entry; the record and the sums of the row
// Barriers   about thirty, and seven per 512 entries a lane and two to four per tile
// Leaves     records; sums, when the mass is wanted: three sums of the row in words of 32 bits. A row with a score that is no number stays as it is.
// Rust twin  src/cpu/rows.rs

// Counts of neighbouring bins: a lane's own, and those of 16 lanes.
const LANE_BINS: u32 = BINS / LANES;
const RUNS: u32 = LANES / 16u;
var<workgroup> wg_lane_counts: array<u32, LANES>;
var<workgroup> wg_run_counts: array<atomic<u32>, RUNS>;
var<workgroup> wg_bad: atomic<u32>;
var<workgroup> wg_record: Record;
var<workgroup> wg_tie_total: atomic<u32>;
var<workgroup> wg_tie_round: u32;

// Of the digits of both sums, a bit each: those that carry one, those that hand on a carry, and those that are not zero in the end. The first word
// is for S, the others are for Q.
const FLAG_WORDS: u32 = 3u;
var<workgroup> wg_carrying: array<atomic<u32>, FLAG_WORDS>;
var<workgroup> wg_handing: array<atomic<u32>, FLAG_WORDS>;
var<workgroup> wg_nonzero: array<atomic<u32>, FLAG_WORDS>;

// Of a row in `sums`: S in 12 words, Q in 22, the kept sum in 12.
const ROW_SUMS: u32 = 46u;
@group(0) @binding(3) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(LANES)
fn rows(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = id.x + id.y * grid.x;
    if (row >= params.groups) {
        return;
    }
    let first = row * params.group_len;
    let end = first + params.group_len;

    // stats
    clear_digits(lane);
    clear_bins(lane);
    clear_runs(lane);
    if (lane == 0u) {
        wg_record = Record();
        wg_record.cut_span = NO_CUT;
        atomicStore(&wg_bad, 0u);
        atomicStore(&wg_found, 0u);
        atomicStore(&wg_tie_total, 0u);
    }
    workgroupBarrier();
    first_read(first, end, lane);

    // budget
    row_canonical(lane);
    if (HAS_MASS) {
        row_write(row * ROW_SUMS, BIG_SUM, 34u, lane);
    }
    if (lane == 0u) {
        row_budget();
    }

    // narrow
    let range = Range(row, first, first, end);
    my_origin = first;
    var record = workgroupUniformLoad(&wg_record);
    if (record.digits < params.digits) {
        row_narrow(record.rank.x, lane);
        record = workgroupUniformLoad(&wg_record);
    }
    if (record.sifted != 0u) {
        // sift, refine
        my_width = 1u << record.left;
        carry_out(range, record.threshold, 0xffffffffu, lane);
        my_width = 0u;
        row_rank(record.rank.x, lane);
        record = workgroupUniformLoad(&wg_record);
    }
    while (record.digits < params.digits) {
        // histogram
        clear_bins(lane);
        clear_runs(lane);
        workgroupBarrier();
        count_digit(first, end, record.threshold, record.left, lane);
        workgroupBarrier();
        row_narrow(record.rank.x, lane);
        record = workgroupUniformLoad(&wg_record);
    }

    // ties
    if (record.status != 0u) {
        if (lane == 0u) {
            records[row] = record;
        }
        return;
    }
    var limit = 0xffffffffu;
    if (record.cut_span != NO_CUT) {
        if (record.sifted == 0u) {
            row_ties(first, end, record.threshold, record.rank.x, lane);
        }
        limit = first + workgroupUniformLoad(&wg_record).cut_index;
    }

    // settle or apply
    if (record.sifted != 0u) {
        row_settle(range, record.threshold, limit, lane);
    } else {
        carry_out(range, record.threshold, limit, lane);
    }
    workgroupBarrier();
    if (lane == 0u) {
        records[row] = wg_record;
    }
    if (HAS_MASS) {
        spread_carries(lane);
        row_canonical(lane);
        row_write(row * ROW_SUMS + 34u, BIG_SUM, 12u, lane);
    }
}

fn clear_bins(lane: u32) {
    for (var bin = lane; bin < BINS; bin += LANES) {
        atomicStore(&wg_bins[bin], 0u);
    }
}

fn clear_runs(lane: u32) {
    if (lane < RUNS) {
        atomicStore(&wg_run_counts[lane], 0u);
    }
}

// A row has one of its own: the powers of two up to two above most of its sample.
fn set_focus(exponent: u32) {
    my_focus = focus_below(exponent, 9u);
}

fn note_bad(word: u32) {
    atomicMax(&wg_bad, word);
}

// One lane: the budget in `wg_record`.
fn row_budget() {
    var record = with_budget(wg_record, row_count(), vec2<u32>(params.group_len, 0u));
    let bad = atomicLoad(&wg_bad);
    if (bad != 0u) {
        record.status = 1u + (~bad & 3u);
        record.bad_slice = params.slice;
        record.bad_index = ~bad >> 2u;
        atomicMax(&first_bad[params.slice], bad);
    }
    if (record.status != 0u) {
        record.digits = params.digits;
    }
    wg_record = record;
}

// One lane: how many entries the row keeps. Nearly all rows have sums so short that 192 bits hold what is compared: without their common power of
// two, S is below 2^64 and Q below 2^112, and with 64 bits of beta and 16 of a count neither side leaves them.
fn row_count() -> vec2<u32> {
    let len = vec2<u32>(params.group_len, 0u);
    let sum_flags = vec2<u32>(atomicLoad(&wg_nonzero[0]), 0u);
    let square_flags = vec2<u32>(atomicLoad(&wg_nonzero[1]), atomicLoad(&wg_nonzero[2]));
    if (sum_flags.x == 0u) {
        return vec2<u32>(0u);
    }
    let sum_bits = bits_between(BIG_SUM, sum_flags);
    let square_bits = bits_between(BIG_SQUARE, square_flags);
    let below = min(sum_bits.x, square_bits.x / 2u);
    if (sum_bits.y - below > 64u || square_bits.y - 2u * below > 112u || params.group_len > 0xffffu) {
        return keep_count(len);
    }
    let sum = vec4<u32>(word_from(BIG_SUM, 24u, below), word_from(BIG_SUM, 24u, below + 32u), 0u, 0u);
    let square = vec4<u32>(
        word_from(BIG_SQUARE, 44u, 2u * below),
        word_from(BIG_SQUARE, 44u, 2u * below + 32u),
        word_from(BIG_SQUARE, 44u, 2u * below + 64u),
        word_from(BIG_SQUARE, 44u, 2u * below + 96u),
    );
    return vec2<u32>(count_in_window(sum, square, params.group_len), 0u);
}

// Zero bits below a number that is not zero, and all its bits.
fn bits_between(at: u32, flags: vec2<u32>) -> vec2<u32> {
    var first = firstTrailingBit(flags.x);
    if (flags.x == 0u) {
        first = 32u + firstTrailingBit(flags.y);
    }
    var last = 31u - countLeadingZeros(flags.x);
    if (flags.y != 0u) {
        last = 63u - countLeadingZeros(flags.y);
    }
    let least = firstTrailingBit(wg_big[at + first]);
    let most = 32u - countLeadingZeros(wg_big[at + last]);
    return vec2<u32>(16u * first + least, 16u * last + most);
}

// 32 bits of a number of so many digits, from bit `bit` on.
fn word_from(at: u32, len: u32, bit: u32) -> u32 {
    let digit = bit / 16u;
    let two = digit_at(at, len, digit) | (digit_at(at, len, digit + 1u) << 16u);
    let shift = bit % 16u;
    return (two >> shift) | ((digit_at(at, len, digit + 2u) << 1u) << (31u - shift));
}

fn digit_at(at: u32, len: u32, digit: u32) -> u32 {
    return wg_big[at + min(digit, len - 1u)] * u32(digit < len);
}

// The digits of both sums to digits of 16 bits, with notes of those that are not zero. Behind `spread_carries` each is below 2^17, so a carry is one at most: which digits
// get one is what the carries of an addition say, of those that carry to those that carry or would hand on. Uniform flow; four barriers.
fn row_canonical(lane: u32) {
    if (lane < FLAG_WORDS) {
        atomicStore(&wg_carrying[lane], 0u);
        atomicStore(&wg_handing[lane], 0u);
        atomicStore(&wg_nonzero[lane], 0u);
    }
    workgroupBarrier();
    for (var i = lane; i < DIGITS; i += LANES) {
        let digit = atomicLoad(&wg_digits[i]);
        let flag = flag_of(i);
        if (digit > 0xffffu) {
            atomicOr(&wg_carrying[flag.x], flag.y);
        } else if (digit == 0xffffu) {
            atomicOr(&wg_handing[flag.x], flag.y);
        }
    }
    workgroupBarrier();
    let carrying = vec3<u32>(atomicLoad(&wg_carrying[0]), atomicLoad(&wg_carrying[1]), atomicLoad(&wg_carrying[2]));
    let either = carrying | vec3<u32>(atomicLoad(&wg_handing[0]), atomicLoad(&wg_handing[1]), atomicLoad(&wg_handing[2]));
    var total = carrying + either;
    total.z += u32(total.y < either.y);
    let carried = total ^ carrying ^ either;
    for (var i = lane; i < DIGITS; i += LANES) {
        let flag = flag_of(i);
        let has_carry = carried[flag.x] & flag.y;
        let digit = (atomicLoad(&wg_digits[i]) + u32(has_carry != 0u)) & 0xffffu;
        wg_big[i] = digit;
        if (digit != 0u) {
            atomicOr(&wg_nonzero[flag.x], flag.y);
        }
    }
    workgroupBarrier();
}

// The word and the bit of a digit.
fn flag_of(i: u32) -> vec2<u32> {
    if (i < SQUARE) {
        return vec2<u32>(0u, 1u << i);
    }
    return vec2<u32>(1u + (i - SQUARE) / 32u, 1u << ((i - SQUARE) % 32u));
}

fn row_write(at: u32, digits: u32, words: u32, lane: u32) {
    for (var i = lane; i < words; i += LANES) {
        sums[at + i] = wg_big[digits + 2u * i] | (wg_big[digits + 2u * i + 1u] << 16u);
    }
}

// One more digit of the threshold: the bin in which the count from the top reaches the rank. Every lane finds out whether that is one of its own.
// Uniform flow; a barrier before and one inside.
fn row_narrow(rank: u32, lane: u32) {
    let first = lane * LANE_BINS;
    // Begun elsewhere by each lane, so that they read different banks. A power of two of bins.
    let turn = first / 32u;
    var mine = 0u;
    for (var i = 0u; i < LANE_BINS; i += 1u) {
        mine += atomicLoad(&wg_bins[first + ((i + turn) & (LANE_BINS - 1u))]);
    }
    wg_lane_counts[lane] = mine;
    if (mine != 0u) {
        atomicAdd(&wg_run_counts[lane / 16u], mine);
    }
    workgroupBarrier();
    var above = 0u;
    for (var run = 0u; run < RUNS; run += 1u) {
        above += atomicLoad(&wg_run_counts[run]) * u32(run > lane / 16u);
    }
    for (var i = 0u; i < 16u; i += 1u) {
        let other = (lane & ~15u) + i;
        above += wg_lane_counts[other] * u32(other > lane);
    }
    // One lane alone, whatever the counts are: the loop over digits ends.
    if ((above < rank || lane == LANES - 1u) && (above + mine >= rank || lane == 0u)) {
        row_narrow_to(rank - above, first);
    }
}

// One lane: the digit among its own.
fn row_narrow_to(among: u32, first: u32) {
    var rank = among;
    var digit = first + LANE_BINS - 1u;
    var count = atomicLoad(&wg_bins[digit]);
    while (digit > first && count < rank) {
        rank -= count;
        digit -= 1u;
        count = atomicLoad(&wg_bins[digit]);
    }
    if (wg_record.digits == 0u) {
        wg_record.threshold = bin_first(digit, my_focus);
        wg_record.left = bin_bits(digit, my_focus);
        wg_record.sifted = u32(count <= ROOM);
    } else {
        wg_record.left = digit_shift(wg_record.left);
        wg_record.threshold |= digit << wg_record.left;
    }
    wg_record.digits += 1u;
    if (wg_record.digits == params.digits) {
        wg_record.left = 0u; // the lowest bits of shorter numbers are zeros
    }
    wg_record.rank.x = rank;
    // Where some ties lose, the row is the span in which they do.
    wg_record.cut_span = NO_CUT;
    wg_record.cut_rank = 0u;
    if (count != rank) {
        wg_record.cut_span = 0u;
        wg_record.cut_rank = rank;
    }
}

// How many entries were found to share the first digit. The same for all lanes in the eyes of FXC too, which takes barriers behind a lane's own loop for
// varying flow. Uniform flow.
fn all_found(lane: u32) -> u32 {
    if (lane == 0u) {
        wg_tie_round = atomicLoad(&wg_found);
    }
    return workgroupUniformLoad(&wg_tie_round);
}

// Of what was found, the entry before which there are rank - 1 others: the last one that is kept. Uniform flow; a barrier before and two inside.
fn row_rank(rank: u32, lane: u32) {
    let found = all_found(lane);
    for (var round = 0u; round < found; round += LANES) {
        let i = min(round + lane, found - 1u);
        let key = atomicLoad(&wg_bins[i]);
        let at = atomicLoad(&wg_bins[ROOM + i]);
        var above = 0u;
        var ties = 0u;
        var ties_before = 0u;
        for (var j = 0u; j < found; j += 1u) {
            let other = atomicLoad(&wg_bins[j]);
            above += u32(other > key);
            ties += u32(other == key);
            ties_before += u32((other == key) & (atomicLoad(&wg_bins[ROOM + j]) < at));
        }
        if (round + lane < found && above + ties_before + 1u == rank) {
            wg_record.threshold = key;
            wg_record.left = 0u;
            wg_record.digits = params.digits;
            wg_record.rank.x = ties_before + 1u;
            wg_record.cut_span = NO_CUT;
            wg_record.cut_rank = 0u;
            if (ties != ties_before + 1u) {
                wg_record.cut_span = 0u;
                wg_record.cut_rank = ties_before + 1u;
                wg_record.cut_index = at + 1u;
            }
        }
    }
}

// What was found and loses leaves the mask and is zeroed; the rest joins the sum of what is kept. Uniform flow.
fn row_settle(range: Range, threshold: u32, limit: u32, lane: u32) {
    // Words of weights and of the mask were written by other lanes.
    storageBarrier();
    var window = Window();
    let found = all_found(lane);
    for (var round = 0u; round < found; round += LANES) {
        if (round + lane < found) {
            let key = atomicLoad(&wg_bins[round + lane]);
            let at = my_origin + atomicLoad(&wg_bins[ROOM + round + lane]);
            if (key > threshold || (key == threshold && at < limit)) {
                if (HAS_MASS) {
                    window_add(&window, key, false);
                }
            } else {
                if (params.mask != 0u) {
                    atomicAnd(&mask[at / 32u], ~(1u << (at % 32u)));
                }
                // The whole word: who looks at another entry of it writes the same.
                carry_some(at / PER_WORD, 0u, threshold, limit, range.first, range.end);
            }
        }
    }
    if (HAS_MASS) {
        windows_flush(&window, false);
    }
}

// Neighbouring entries that a lane looks at in one round.
const RUN: u32 = 16u;

// The entry, counted from the row's first, after the tie number `rank`. Leaves it in `wg_record`.
fn row_ties(first: u32, end: u32, threshold: u32, rank: u32, lane: u32) {
    var left = rank;
    var round = first;
    while (round < end) {
        let run = round + lane * RUN;
        var mine = 0u;
        for (var at = run; at < min(run + RUN, end); at += 1u) {
            mine += u32(key_at(at) == threshold);
        }
        wg_lane_counts[lane] = mine;
        if (mine != 0u) {
            atomicAdd(&wg_tie_total, mine);
        }
        workgroupBarrier();
        if (lane == 0u) {
            wg_tie_round = atomicLoad(&wg_tie_total);
            atomicStore(&wg_tie_total, 0u);
        }
        let in_round = workgroupUniformLoad(&wg_tie_round);
        if (in_round >= left) {
            break;
        }
        left -= in_round;
        round += LANES * RUN;
    }
    // Not where the loop ends: with a lane's own loop in there, FXC takes its barriers for varying flow.
    if (lane == 0u) {
        wg_record.cut_index = row_cut(round, left, threshold, end) - first;
    }
    workgroupBarrier();
}

fn row_cut(round: u32, rank: u32, threshold: u32, end: u32) -> u32 {
    var left = rank;
    var owner = 0u;
    while (owner < LANES - 1u && wg_lane_counts[owner] < left) {
        left -= wg_lane_counts[owner];
        owner += 1u;
    }
    var at = round + owner * RUN;
    while (at < end && left != 0u) {
        left -= u32(key_at(at) == threshold);
        at += 1u;
    }
    return at;
}

fn key_at(at: u32) -> u32 {
    return key_of(widen(weights[at / PER_WORD], at % PER_WORD), at);
}
