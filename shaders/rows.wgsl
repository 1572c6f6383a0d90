// Rows: many contests in one slice, each by one workgroup from its first sum to its last mask bit. All stages in one dispatch.
//
// Grid       one workgroup per row, for rows that are too long for `teams`; a lane takes every 256th word of the row
// Reads      every weight four times, after the first from a cache that holds a row (three times for 16-bit weights)
// Writes     every word that loses something; a bit of the mask per entry; the record and the sums of the row
// Barriers   about forty, and six per 192 entries a lane and one to four per tile
// Leaves     records; sums: three sums of the row in words of 32 bits. A row with a score that is no number stays as it is.
// Rust twin  src/cpu/rows.rs

// Counts of neighbouring bins, for the walk: a lane's own, and those of 16 lanes.
const LANE_BINS: u32 = BINS / LANES;
const RUNS: u32 = LANES / 16u;
var<workgroup> wg_lane_counts: array<u32, LANES>;
var<workgroup> wg_run_counts: array<u32, RUNS>;
var<workgroup> wg_bad: atomic<u32>;
var<workgroup> wg_record: Record;
var<workgroup> wg_tie_total: atomic<u32>;
var<workgroup> wg_tie_round: u32;

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
    if (lane == 0u) {
        wg_record = Record();
        wg_record.cut_span = NO_CUT;
        atomicStore(&wg_bad, 0u);
    }
    workgroupBarrier();
    first_read(first, end, lane);

    // budget
    for (var i = lane; i < DIGITS; i += LANES) {
        wg_carries[i] = atomicLoad(&wg_digits[i]);
    }
    workgroupBarrier();
    if (lane == 0u) {
        row_budget(row);
    }

    // narrow, histogram
    var record = workgroupUniformLoad(&wg_record);
    while (record.digits < params.digits) {
        if (record.digits > 0u) {
            clear_bins(lane);
            workgroupBarrier();
            count_digit(first, end, record.prefix, digit_shift(record.digits), lane);
            workgroupBarrier();
        }
        row_narrow(lane);
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
        row_ties(first, end, record.threshold, record.rank.x, lane);
        limit = first + workgroupUniformLoad(&wg_record).cut_index;
    }

    // apply
    carry_out(Range(row, 0u, first, first, end), record.threshold, limit, lane);
    workgroupBarrier();
    if (lane == 0u) {
        records[row] = wg_record;
        for (var i = 0u; i < 24u; i += 1u) {
            wg_carries[i] = atomicLoad(&wg_digits[i]);
        }
        row_canonical(SUM, BIG_SUM, 24u);
        row_write(row * ROW_SUMS + 34u, BIG_SUM, 12u);
    }
}

fn clear_bins(lane: u32) {
    for (var bin = lane; bin < BINS; bin += LANES) {
        atomicStore(&wg_bins[bin], 0u);
    }
}

fn note_bad(word: u32) {
    atomicMax(&wg_bad, word);
}

// One lane: carries spread, sums written, the budget in `wg_record`.
fn row_budget(row: u32) {
    row_canonical(SUM, BIG_SUM, 24u);
    row_canonical(SQUARE, BIG_SQUARE, 44u);
    row_write(row * ROW_SUMS, BIG_SUM, 34u);
    var record = with_budget(wg_record, vec2<u32>(params.group_len, 0u));
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

// Digits in `wg_carries` from `at` on to digits of 16 bits.
fn row_canonical(at: u32, out: u32, len: u32) {
    var carry = 0u;
    for (var i = 0u; i < len; i += 1u) {
        let digit = wg_carries[at + i] + carry;
        wg_big[out + i] = digit & 0xffffu;
        carry = digit >> 16u;
    }
}

fn row_write(at: u32, digits: u32, words: u32) {
    for (var i = 0u; i < words; i += 1u) {
        sums[at + i] = wg_big[digits + 2u * i] | (wg_big[digits + 2u * i + 1u] << 16u);
    }
}

// One more digit of the threshold: the bin in which the count from the top reaches the rank.
fn row_narrow(lane: u32) {
    var mine = 0u;
    for (var i = 0u; i < LANE_BINS; i += 1u) {
        mine += atomicLoad(&wg_bins[lane * LANE_BINS + i]);
    }
    wg_lane_counts[lane] = mine;
    workgroupBarrier();
    if (lane < RUNS) {
        var run = 0u;
        for (var i = 0u; i < 16u; i += 1u) {
            run += wg_lane_counts[lane * 16u + i];
        }
        wg_run_counts[lane] = run;
    }
    workgroupBarrier();
    if (lane == 0u) {
        // From the top: first the run of lanes that holds the rank, then the lane, then the bin.
        var rank = wg_record.rank.x;
        var run = RUNS - 1u;
        while (run > 0u && wg_run_counts[run] < rank) {
            rank -= wg_run_counts[run];
            run -= 1u;
        }
        var owner = run * 16u + 15u;
        while (owner > run * 16u && wg_lane_counts[owner] < rank) {
            rank -= wg_lane_counts[owner];
            owner -= 1u;
        }
        var digit = owner * LANE_BINS + LANE_BINS - 1u;
        var count = atomicLoad(&wg_bins[digit]);
        while (digit > owner * LANE_BINS && count < rank) {
            rank -= count;
            digit -= 1u;
            count = atomicLoad(&wg_bins[digit]);
        }
        if (wg_record.digits == 0u) {
            wg_record.prefix = digit;
        } else {
            wg_record.prefix = (wg_record.prefix << LOW_BITS) | digit;
        }
        wg_record.threshold = wg_record.prefix << digit_shift(wg_record.digits);
        wg_record.digits += 1u;
        wg_record.rank.x = rank;
        // Where some ties lose, the row is the span in which they do.
        wg_record.cut_span = NO_CUT;
        wg_record.cut_rank = 0u;
        if (count != rank) {
            wg_record.cut_span = 0u;
            wg_record.cut_rank = rank;
        }
    }
}

// Neighbouring entries that a lane looks at in one round.
const RUN: u32 = 16u;

// The entry, counted from the row's first, after the tie number `rank`. Leaves it in `wg_record`.
fn row_ties(first: u32, end: u32, threshold: u32, rank: u32, lane: u32) {
    if (lane == 0u) {
        atomicStore(&wg_tie_total, 0u);
    }
    workgroupBarrier();
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
