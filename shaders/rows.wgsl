// Rows: many contests in one slice, each by one workgroup from its first sum to its last mask bit. All stages in one dispatch.
//
// Grid       one workgroup per row, for rows that are too long for `teams`; a lane takes every LANES'th word of the row, or every LANES'th four of words
// Reads      every weight, so many times, from the second on from a cache that holds a row:
//                 2  always
//                +1  where more than 64 of them fit no window
//                +2  where more than 512 entries share the first digit of the threshold, or
//                +4  where that is not in focus; of scores of 16 or 8 bits half as often
//                +1  after these, or where more than 512 share its level of bf16, if some ties lose: as far as the last one that is kept
// Writes     every word of weights that is the row's alone, changed or not; a bit of the mask per entry; the record and the sums of the row
// Barriers   between its steps, of which there are more where what lanes share does not tell the budget; in each tile for a mask or a mass
// Leaves     records; sums, when the mass is wanted: three sums of the row in words of 32 bits. A row with a score that is no number stays as it is.
// Rust twin  src/cpu/rows.rs

// What else `wg_bins` is for: the bins of later digits, and candidates.
const LEAST_COUNTERS: u32 = max(LOW_BINS, 2u * ROOM);
const MOST_STRAYS: u32 = 64u;
// Whether the longest row, of 65535 entries, is too long for one window a lane: with constants that are only tried.
const MANY_SPREADS: bool = LANES * SPREAD < 65536u;
var<workgroup> wg_bad: atomic<u32>;
// Bits of a record's threshold that are left, while its budget is not told.
const UNTOLD: u32 = 32u;
var<workgroup> wg_record: Record;
var<workgroup> wg_tie_total: atomic<u32>;
var<workgroup> wg_tie_round: u32;

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
    if (MANY_SPREADS) {
        clear_digits(lane);
    }
    clear_sample(lane);
    clear_bins(lane);
    clear_runs(lane);
    if (lane == 0u) {
        wg_record = Record();
        wg_record.cut_span = NO_CUT;
        wg_record.left = UNTOLD;
        atomicStore(&wg_bad, 0u);
        atomicStore(&wg_found, 0u);
        atomicStore(&wg_tie_total, 0u);
    }
    workgroupBarrier();
    first_read(first, end, lane);

    // budget, and half of the first step of narrow, for which it need not be known
    workgroupBarrier();
    row_sum_bins(true, lane);
    if (!HAS_MASS && lane == 0u) {
        row_budget_told();
    }
    var record = workgroupUniformLoad(&wg_record);
    if (record.left == UNTOLD) {
        if (!MANY_SPREADS) {
            clear_digits(lane);
        }
        finish_sums(first, end, lane);
        canonical(lane);
        if (HAS_MASS) {
            row_write(row * ROW_SUMS, BIG_SUM, 34u, lane);
        }
        if (lane == 0u) {
            row_budget(keep_count(vec2<u32>(params.group_len, 0u)));
        }
        record = workgroupUniformLoad(&wg_record);
    }

    // narrow
    let range = Range(row, first, first, end);
    my_origin = first;
    while (record.sifted == 0u && record.digits < params.digits) {
        if (record.digits != 0u) {
            // histogram
            clear_bins(lane);
            clear_runs(lane);
            workgroupBarrier();
            count_digit(first, end, record.threshold, record.left, lane);
            workgroupBarrier();
            row_sum_bins(false, lane);
            workgroupBarrier();
        }
        row_narrow(record.rank.x, record.digits == 0u, lane);
        record = workgroupUniformLoad(&wg_record);
    }
    let found = record.sifted;
    if (record.status != 0u) {
        if (lane == 0u) {
            records[row] = record;
        }
        return;
    }

    // ties
    var limit = 0xffffffffu;
    if (found == 0u && record.cut_span != NO_CUT) {
        row_ties(first, end, record.threshold, record.rank.x, lane);
        limit = workgroupUniformLoad(&wg_cut);
        if (lane == 0u) {
            wg_record.cut_index = limit - first;
        }
    }

    // sift or apply
    my_width = u32(found != 0u) << record.left;
    carry_out(range, record.threshold, limit, lane);
    my_width = 0u;

    // settle
    if (found != 0u) {
        // Candidates were noted, and words of weights and of the mask written, by other lanes.
        workgroupBarrier();
        storageBarrier();
        row_rank(record.rank.x, found, lane);
        record = workgroupUniformLoad(&wg_record);
        if (record.cut_span != NO_CUT) {
            limit = first + record.cut_index;
        }
        row_settle(range, record.threshold, limit, found, lane);
    }
    workgroupBarrier();
    if (lane == 0u) {
        record = wg_record;
        record.sifted = u32(record.sifted != 0u);
        records[row] = record;
    }
    if (HAS_MASS) {
        spread_carries(lane);
        canonical(lane);
        row_write(row * ROW_SUMS + 34u, BIG_SUM, 12u, lane);
    }
}

fn clear_bins(lane: u32) {
    for (var i = lane; i < COUNTERS; i += LANES) {
        atomicStore(&wg_bins[i], 0u);
    }
}

// So many more keys in a bin.
fn count_in_bin(bin: u32, count: u32) {
    atomicAdd(&wg_bins[bin], count);
}

// A row has one of its own: what is in its window.
fn set_focus(top: u32) {
    my_focus = focus_below(top, REACH);
}

fn note_bad(word: u32) {
    atomicMax(&wg_bad, word);
}

// Strays that one lane adds by itself: a row of normal scores has two.
const MOST_NEAR: u32 = 8u;

// One lane: the budget by what lanes have shared, where that is all but for a few strays near it, and its leading bits tell.
fn row_budget_told() {
    let strays = atomicLoad(&wg_stray_count);
    if (MANY_SPREADS || strays > MOST_NEAR) {
        return;
    }
    var sum = up_by(shared_sum(), NEAR);
    var square = up_by(shared_square(), 2u * NEAR);
    for (var i = 0u; i < strays; i += 1u) {
        let near = near_stray(wg_strays[i]);
        if (near == 0u) {
            return;
        }
        sum = add_at(sum, near, 0u);
        let product = product_64(near, near);
        square = add_at(add_at(square, product.x, 0u), product.y, 32u);
    }
    var count = vec2<u32>(0u);
    if (any(sum != vec4<u32>(0u))) {
        count = count_by_leading(leading_128(sum), leading_128(square), vec2<u32>(params.group_len, 0u));
        if (all(count == vec2<u32>(0u))) {
            return;
        }
    }
    row_budget(count);
}

// One lane: the budget in `wg_record`.
fn row_budget(effective: vec2<u32>) {
    var record = with_budget(wg_record, effective, vec2<u32>(params.group_len, 0u));
    record.left = 0u;
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

fn row_write(at: u32, digits: u32, words: u32, lane: u32) {
    for (var i = lane; i < words; i += LANES) {
        sums[at + i] = wg_big[digits + 2u * i] | (wg_big[digits + 2u * i + 1u] << 16u);
    }
}

// To `wg_cut`, the entry from which on ties lose: the one behind the tie number `rank`.
fn row_ties(first: u32, end: u32, threshold: u32, rank: u32, lane: u32) {
    var left = rank;
    var round = first;
    var ties = 0u;
    while (round < end) {
        ties = ties_of(round, end, threshold, lane);
        if (ties != 0u) {
            atomicAdd(&wg_tie_total, countOneBits(ties));
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
        round += ROUND;
    }
    find_cut(round, left, ties, lane);
}
