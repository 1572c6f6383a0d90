// A row's threshold, digit by digit: every lane has some neighbouring bins, and the lane that has the threshold's bin among its own finds it. Contests have
// parts/narrow_digit.wgsl.
//
// Rust twin: src/narrow.rs

// Counts of neighbouring bins: a lane's own, and those of 16 lanes. Of any digit there are as many.
const LANE_BINS: u32 = FINE_BINS / LANES;

// How many keys are in each lane's bins, and in those of 16 lanes. A barrier must follow.
fn row_sum_bins(is_first: bool, lane: u32) {
    var mine = 0u;
    for (var i = 0u; i < LANE_BINS; i += 1u) {
        mine += row_count_of(lane * LANE_BINS + i, is_first);
    }
    atomicStore(&wg_lane_words[lane], mine);
    if (mine != 0u) {
        atomicAdd(&wg_run_counts[lane / 16u], mine);
    }
}

// One more digit of the threshold: the bin in which the count from the top reaches the rank. Every lane finds out whether that is one of its own; where
// it is none of those in focus all digits are sought.
fn row_narrow(all: u32, is_first: bool, lane: u32) {
    let first = lane * LANE_BINS;
    let mine = atomicLoad(&wg_lane_words[lane]);
    var above = 0u;
    if (is_first) {
        above = atomicLoad(&wg_bins[ABOVE]);
    }
    let is_above = is_first && above >= all;
    let my_run = lane / 16u;
    for (var run = 0u; run < RUNS; run += 1u) {
        above += atomicLoad(&wg_run_counts[run]) * u32(run > my_run);
    }
    // Lanes of one run alone look further.
    let in_run = atomicLoad(&wg_run_counts[my_run]);
    if (!is_above && ((above >= all && my_run != RUNS - 1u) || (above + in_run < all && my_run != 0u))) {
        return;
    }
    for (var i = 0u; i < 16u; i += 1u) {
        let other = (lane & ~15u) + i;
        above += atomicLoad(&wg_lane_words[other]) * u32(other > lane);
    }
    if (is_above || (is_first && lane == 0u && above + mine < all)) {
        if (lane == 0u) {
            row_widen();
        }
    } else if ((above < all || lane == LANES - 1u) && (above + mine >= all || lane == 0u)) {
        // One lane alone, whatever the counts are: each digit leaves fewer bits open, and the loop over them ends.
        row_narrow_to(all - above, first, is_first);
    }
}

// One lane: of the threshold nothing is known.
fn row_widen() {
    wg_record.left = 31u;
    wg_record.digits = 1u;
}

// How many keys have a digit.
fn row_count_of(digit: u32, is_first: bool) -> u32 {
    let word = atomicLoad(&wg_bins[digit]);
    if (is_first) {
        return keys_in(word);
    }
    return word;
}

// What is known of a threshold when the bin of its first digit is: how far from the first key in focus it lies, but for so many of its lowest bits; how many keys agree
// with it so far, and its rank among them.
struct Found {
    above: u32,
    left: u32,
    count: u32,
    rank: u32,
}

// One lane: the digit among its own.
fn row_narrow_to(among: u32, first: u32, is_first: bool) {
    var rank = among;
    var digit = first + LANE_BINS - 1u;
    var count = row_count_of(digit, is_first);
    while (digit > first && count < rank) {
        rank -= count;
        digit -= 1u;
        count = row_count_of(digit, is_first);
    }
    if (is_first) {
        let found = found_in(digit, rank);
        count = found.count;
        rank = found.rank;
        wg_record.threshold = my_focus + found.above;
        wg_record.left = found.left;
        wg_record.sifted = count * u32(count <= ROOM);
        wg_record.digits = 1u;
        if (FIRST_IS_LAST) {
            wg_record.digits = params.digits;
            // Of ties that are all kept none is a candidate.
            wg_record.sifted *= u32(count != rank);
            wg_record.left *= u32(wg_record.sifted != 0u);
        }
    } else {
        wg_record.left = digit_shift(wg_record.left);
        wg_record.threshold |= digit << wg_record.left;
    }
    // The lowest eleven bits of shorter numbers are zeros.
    if (wg_record.left <= 11u * u32(params.digits == 2u)) {
        wg_record.left = 0u;
        wg_record.digits = params.digits;
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
