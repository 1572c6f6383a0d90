// Counters of levels, a word each. The other choice, for rows, is parts/levels_paired.wgsl.

const COUNTERS: u32 = LEVELS + 1u;

// A workgroup has many words one after the other. A tenth less time.
const EIGHT_AHEAD: bool = true;

fn count_at(place: u32) {
    atomicAdd(&wg_bins[place], 1u);
}

fn count_of(place: u32) -> u32 {
    return atomicLoad(&wg_bins[place]);
}

// What the counters say goes to the digits of the sums. They stay what they are until they are handed in: for bins there is no room.
fn levels_to_sums(lowest: u32, lane: u32) {
    for (var run = 0u; run < LANE_RUNS; run += 1u) {
        let first = (run * LANES + lane) * LANE_LEVELS;
        // A count is two halves of 16 bits: each, times a level of 8 bits or its square, and eight or sixteen of them together.
        var sums = vec2<u32>(0u);
        var squares = vec2<u32>(0u);
        var squares_above = vec2<u32>(0u);
        for (var i = 0u; i < LANE_LEVELS; i += 1u) {
            let of_level = count_of(first + i);
            let m = significand((lowest + first + i) << 16u) >> 16u;
            let halves = vec2<u32>(of_level & 0xffffu, of_level >> 16u);
            let products = halves * (m * m);
            sums += halves * m;
            squares += products & vec2<u32>(0xffffu);
            squares_above += products >> vec2<u32>(16u);
        }
        deposit_levels(exponent((lowest + first) << 16u) + SCORE_AT + 16u, sums, squares, squares_above);
    }
}

// What neighbouring levels of one exponent add up to, from bit `at` of a sum, and from twice that of the other.
fn deposit_levels(at: u32, sums: vec2<u32>, squares: vec2<u32>, squares_above: vec2<u32>) {
    if (all(sums == vec2<u32>(0u))) {
        return;
    }
    deposit(SUM, at, vec4<u32>(sums.x, 0u, 0u, 0u), 1u);
    deposit(SQUARE, 2u * at, vec4<u32>(squares.x, 0u, 0u, 0u), 1u);
    deposit(SQUARE, 2u * at + 16u, vec4<u32>(squares_above.x, 0u, 0u, 0u), 1u);
    if (sums.y != 0u) {
        deposit(SUM, at + 16u, vec4<u32>(sums.y, 0u, 0u, 0u), 1u);
        deposit(SQUARE, 2u * at + 16u, vec4<u32>(squares.y, 0u, 0u, 0u), 1u);
        deposit(SQUARE, 2u * at + 32u, vec4<u32>(squares_above.y, 0u, 0u, 0u), 1u);
    }
}

// Lanes share nothing but the digits, and what lies in coarse bins: 64 levels of one, which would wait for each other at the contest's counter. That is nearly all
// there is where levels and focus lie apart.
const LEVEL_BINS: u32 = LEVELS >> (COARSE_BITS - 16u);

fn clear_shared(lane: u32) {
    if (lane < LEVEL_BINS) {
        atomicStore(&wg_lane_words[lane], 0u);
    }
}

// Whether there are more strays than are listed, and so more than are worth an addition each to the contest's bins: all workgroups would wait for each other
// there. `wg_bins` has a counter for each coarse bin then, and behind these for as many of those in focus as there is room for, lowest first: strays above
// all levels are the fewer the larger they are.
var<workgroup> wg_are_many: u32;
var<private> my_are_many: bool;
const COARSE_BINS: u32 = 1u << (31u - COARSE_BITS);
const FOCUS_BINS: u32 = min(COUNTERS - COARSE_BINS, FINE_BINS);

fn count_stray(key: u32) {
    let above = key - my_focus;
    if (my_are_many && above >= IN_FOCUS) {
        atomicAdd(&wg_bins[key >> COARSE_BITS], 1u);
    } else if (my_are_many && above < (FOCUS_BINS << FINE_BITS)) {
        atomicAdd(&wg_bins[COARSE_BINS + (above >> FINE_BITS)], 1u);
    } else {
        count_in_bin(bin_of(key, my_focus), 1u);
    }
}

// Uniform flow; barriers inside. What counters say of the first digit is handed in here, neighbouring bins by neighbouring lanes.
fn finish_sums(first: u32, end: u32, lane: u32) {
    if (lane == 0u) {
        let strays = atomicLoad(&wg_stray_count);
        wg_are_many = u32(strays > MOST_STRAYS);
        // What has no counter and is no stray is zero.
        count_in_bin(bin_of(0u, my_focus), count_of(LEVELS) - strays);
    }
    for (var place = lane; place < LEVELS; place += LANES) {
        let key = (my_lowest + place) << 16u;
        if (key - my_focus < IN_FOCUS) {
            count_in_bin(fine_bin(key - my_focus, my_focus), count_of(place));
        } else {
            atomicAdd(&wg_lane_words[place >> (COARSE_BITS - 16u)], count_of(place));
        }
    }
    let are_many = workgroupUniformLoad(&wg_are_many) != 0u;
    my_are_many = are_many;
    if (lane < LEVEL_BINS) {
        count_in_bin(bin_of((my_lowest << 16u) + (lane << COARSE_BITS), my_focus), atomicLoad(&wg_lane_words[lane]));
    }
    if (are_many) {
        for (var bin = lane; bin < COARSE_BINS + FOCUS_BINS; bin += LANES) {
            atomicStore(&wg_bins[bin], 0u);
        }
        workgroupBarrier();
    }
    add_strays(first, end, lane);
    spread_carries(lane);
}

// Only what strays say is left. A coarse bin is in focus, all of it, or not.
fn hand_in_bins(lane: u32) {
    if (my_are_many) {
        for (var bin = lane; bin < COARSE_BINS; bin += LANES) {
            count_in_bin(bin_of(bin << COARSE_BITS, my_focus), atomicLoad(&wg_bins[bin]));
        }
        for (var bin = lane; bin < FOCUS_BINS; bin += LANES) {
            count_in_bin(fine_bin(bin << FINE_BITS, my_focus), atomicLoad(&wg_bins[COARSE_BINS + bin]));
        }
    }
}
