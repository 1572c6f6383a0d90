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

// The first level that has a counter.
var<private> my_lowest: u32;

// Uniform flow. The caller has cleared `wg_bins`, and clears the digits before `finish_sums`. A score that is no number goes to the stage's `note_bad`; the rest is
// worth nothing then.
fn first_read(first: u32, end: u32, lane: u32) {
    clear_strays(lane);
    let start = first / PER_WORD;
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    // The next words are asked for before these are worked on.
    var next = words_up_to(start, end, lane);
    var next_b = vec4<u32>();
    if (EIGHT_AHEAD) {
        next_b = words_up_to(start + 4u * LANES, end, lane);
    }
    let best = common_exponent(LEVEL_REACH - LEVEL_HEADROOM, LEVEL_HEADROOM, first, end, lane);
    // No higher than the largest exponent of a number: what is none must not have a counter.
    let top = min(best + LEVEL_HEADROOM, 254u);
    set_focus(top);
    let lowest = (max(top, LEVEL_REACH) - LEVEL_REACH) << EXPONENT_BITS;
    my_lowest = lowest;
    // Nobody needs the sample any more.
    clear_shared(lane);

    for (var four = start; four < end_word; four += AHEAD * LANES) {
        let words = next;
        let words_b = next_b;
        next = words_up_to(four + AHEAD * LANES, end, lane);
        if (EIGHT_AHEAD) {
            next_b = words_up_to(four + (AHEAD + 4u) * LANES, end, lane);
        }
        count_words(words, four, lowest, first, end, lane);
        if (EIGHT_AHEAD) {
            count_words(words_b, four + 4u * LANES, lowest, first, end, lane);
        }
    }
    hand_in_strays();
    workgroupBarrier();
    levels_to_sums(lowest, lane);
}

// Words that a lane has asked for before they are worked on.
const AHEAD: u32 = 4u + 4u * u32(EIGHT_AHEAD);

// A lane's four words from word `four` on, as far as they are ours.
fn count_words(words: vec4<u32>, four: u32, lowest: u32, first: u32, end: u32, lane: u32) {
    var strays = 0u;
    if (are_ours(four, first, end, lane)) {
        strays = count_four(words, lowest);
    } else if (!IN_FOURS) {
        let at = my_four(four, lane);
        for (var i = 0u; i < 4u; i += 1u) {
            for (var half = 0u; half < PER_WORD; half += 1u) {
                let entry = at[i] * PER_WORD + half;
                if (entry >= first && entry < end) {
                    strays |= count_level((words[i] >> (16u * half)) & 0x7fffu, lowest) << (i * PER_WORD + half);
                }
            }
        }
    }
    while (strays != 0u) {
        let i = firstTrailingBit(strays);
        strays &= strays - 1u;
        let entry = nth_word(four, i / PER_WORD, lane) * PER_WORD + i % PER_WORD;
        let key = widen(load_word(entry / PER_WORD), entry % PER_WORD);
        if (key >= KEY_END) {
            note_bad(bad_word(key, entry));
        } else {
            take_stray(key);
        }
    }
}

// Eight levels, two in each word: a bit for each that is a stray. Nearly always all of them have a counter: a bit set above each half keeps a borrow out of the
// other one, and stays where the level is not below the lowest.
fn count_four(words: vec4<u32>, lowest: u32) -> u32 {
    let above = (words | vec4<u32>(ABOVE_HALVES)) - vec4<u32>(lowest * 0x10001u);
    let differs = above ^ vec4<u32>(ABOVE_HALVES);
    var strays = 0u;
    if (((differs.x | differs.y | differs.z | differs.w) & ~(LEVEL_MASK * 0x10001u)) == 0u) {
        count_two(above.x);
        count_two(above.y);
        count_two(above.z);
        count_two(above.w);
    } else {
        strays = count_word(words.x, lowest);
        strays |= count_word(words.y, lowest) << 2u;
        strays |= count_word(words.z, lowest) << 4u;
        strays |= count_word(words.w, lowest) << 6u;
    }
    return strays;
}

const ABOVE_HALVES: u32 = 0x80008000u;
const LEVEL_MASK: u32 = LEVELS - 1u;

fn count_two(above: u32) {
    count_at(above & LEVEL_MASK);
    count_at((above >> 16u) & LEVEL_MASK);
}

fn count_word(word: u32, lowest: u32) -> u32 {
    return count_level(word & 0x7fffu, lowest) | (count_level((word >> 16u) & 0x7fffu, lowest) << 1u);
}

// 1 when it is a stray, or no number. What has no counter shares the one behind them: no lane waits for another's branch.
fn count_level(level: u32, lowest: u32) -> u32 {
    let place = min(level - lowest, LEVELS);
    count_at(place);
    return u32(place == LEVELS && level != 0u);
}

fn is_stray(key: u32) -> bool {
    return (key >> 16u) - my_lowest >= LEVELS && key != 0u && key < KEY_END;
}

// It has no counter.
fn add_stray(key: u32) {
    count_stray(key);
    deposit_score(key, true);
}

// A lane's neighbouring counters, all of one exponent: as many as sixteen, so that their sums fit.
const LANE_LEVELS: u32 = min(LEVELS / LANES, 16u);
const LANE_RUNS: u32 = LEVELS / LANES / LANE_LEVELS;
