// The first read of some entries of bf16 by one workgroup; leaves what parts/first_read.wgsl does.
//
// Of 15 bits of magnitude there are few levels: 128 to an exponent. Those of sixteen exponents, which hold nearly everything, have a counter each, so
// that an entry costs one addition; what the counters say is multiplied by the levels afterwards. Entries outside, strays, are listed and added one by
// one; where there are more than the list holds, they are sought in another read.
//
// Rust twin: src/cpu/levels.rs

// Levels of an exponent: their low bits, of 15.
const EXPONENT_BITS: u32 = 7u;
// Levels that have counters, and exponents below the top one of theirs.
const LEVELS: u32 = 2048u;
const LEVEL_REACH: u32 = (LEVELS >> EXPONENT_BITS) - 1u;
const LEVEL_HEADROOM: u32 = 1u;

var<workgroup> wg_strays: array<u32, MOST_STRAYS>;
var<workgroup> wg_stray_count: atomic<u32>;

// Uniform flow. Bins and digits are clear. A score that is no number goes to the stage's `note_bad`; the rest is worth nothing then.
fn first_read(first: u32, end: u32, lane: u32) {
    if (lane == 0u) {
        atomicStore(&wg_stray_count, 0u);
    }
    let start = first / PER_WORD;
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    // The next four words are asked for before these are worked on.
    var next = words_of(start, first, end, lane);
    let lane_words = max((end_word - start + LANES - 1u) / LANES, 1u);
    let best = common_exponent(start + (lane % lane_words) * LANES + lane, LEVEL_REACH - LEVEL_HEADROOM, LEVEL_HEADROOM, first, end, lane);
    // No higher than the largest exponent of a number: what is none must not have a counter.
    let top = min(best + LEVEL_HEADROOM, 254u);
    set_focus(top);
    let lowest = (max(top, LEVEL_REACH) - LEVEL_REACH) << EXPONENT_BITS;

    for (var four = start; four < end_word; four += 4u * LANES) {
        let words = next;
        next = words_of(four + 4u * LANES, first, end, lane);
        let at = four + lane + FOUR;
        if (all_ours(four, first, end)) {
            count_word(words.x, at.x, lowest);
            count_word(words.y, at.y, lowest);
            count_word(words.z, at.z, lowest);
            count_word(words.w, at.w, lowest);
        } else {
            for (var i = 0u; i < 4u; i += 1u) {
                for (var half = 0u; half < PER_WORD; half += 1u) {
                    let entry = at[i] * PER_WORD + half;
                    if (entry >= first && entry < end) {
                        count_level((words[i] >> (16u * half)) & 0x7fffu, entry, lowest);
                    }
                }
            }
        }
    }
    workgroupBarrier();
    let strays = atomicLoad(&wg_stray_count);
    // What has no counter and is no stray is zero.
    let zeros = count_of(LEVELS) - strays;
    levels_to_digits(lowest, lane);
    if (lane == 0u) {
        count_in_bin(bin_of(0u, my_focus), zeros);
    }
    if (strays <= MOST_STRAYS) {
        for (var i = lane; i < strays; i += LANES) {
            add_stray(wg_strays[i]);
        }
    } else {
        for (var word_at = start + lane; word_at < end_word; word_at += LANES) {
            let word = weights[word_at];
            for (var half = 0u; half < PER_WORD; half += 1u) {
                let entry = word_at * PER_WORD + half;
                let level = (word >> (16u * half)) & 0x7fffu;
                if (entry >= first && entry < end && is_stray(level, lowest)) {
                    add_stray(level);
                }
            }
        }
    }
    spread_carries(lane);
}

fn count_word(word: u32, word_at: u32, lowest: u32) {
    count_level(word & 0x7fffu, word_at * PER_WORD, lowest);
    count_level((word >> 16u) & 0x7fffu, word_at * PER_WORD + 1u, lowest);
}

fn count_level(level: u32, entry: u32, lowest: u32) {
    // What has no counter shares the one behind them: no lane waits for another's branch.
    let place = min(level - lowest, LEVELS);
    count_at(place);
    if (place == LEVELS && level != 0u) {
        let key = level << 16u;
        if (key >= KEY_END) {
            note_bad(bad_word(key, entry));
        } else {
            let number = atomicAdd(&wg_stray_count, 1u);
            if (number < MOST_STRAYS) {
                wg_strays[number] = level;
            }
        }
    }
}

fn is_stray(level: u32, lowest: u32) -> bool {
    return level - lowest >= LEVELS && level != 0u && (level << 16u) < KEY_END;
}

fn add_stray(level: u32) {
    count_in_bin(bin_of(level << 16u, my_focus), 1u);
    deposit_score(level << 16u, true);
}

// A lane's neighbouring counters, all of one exponent: as many as sixteen, so that their sums fit.
const LANE_LEVELS: u32 = min(LEVELS / LANES, 16u);
const LANE_RUNS: u32 = LEVELS / LANES / LANE_LEVELS;

// What the counters say goes to the digits of the sums; then they become the counts of the first digit. Uniform flow; a few barriers, or none.
fn levels_to_digits(lowest: u32, lane: u32) {
    var counts = array<u32, LEVELS / LANES>();
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
            counts[run * LANE_LEVELS + i] = of_level;
            sums += halves * m;
            squares += products & vec2<u32>(0xffffu);
            squares_above += products >> vec2<u32>(16u);
        }
        deposit_levels(exponent((lowest + first) << 16u) + SCORE_AT + 16u, sums, squares, squares_above, lane);
    }
    levels_to_bins(&counts, lowest, lane);
}
