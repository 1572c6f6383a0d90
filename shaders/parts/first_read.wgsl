// The first read of some entries by one workgroup: the exact sums of their scores and squares in `wg_digits`, and in `wg_bins` how many have each
// first digit.
//
// Most scores lie within 18 powers of two of each other, and are added in windows that lie alike in all lanes. The others, strays, are marked and
// taken one by one after every 16 entries: lanes wait then for the lane with the most of them, and not at every entry for some lane.
//
// Rust twin: src/cpu/stats.rs

// The windows of all lanes, added up: limbs, then products as a `Window` has them.
var<workgroup> wg_window: array<atomic<u32>, WINDOW_WORDS>;
const WINDOW_WORDS: u32 = 15u;

// Words that a lane takes before the products are widened, and before the windows are emptied and carries are spread.
const WIDEN_WORDS: u32 = 16u / PER_WORD;
const SPREAD_WORDS: u32 = SPREAD / PER_WORD;

// Uniform flow. Bins and digits are clear. A score that is no number goes to the stage's `note_bad`; the rest is worth nothing then.
fn first_read(first: u32, end: u32, lane: u32) {
    var window = Window();
    if (lane < WINDOW_WORDS) {
        atomicStore(&wg_window[lane], 0u);
    }
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    // Four words are always asked for before the ones before them are worked on.
    var next = vec4<u32>(0u);
    if (all_ours(first / PER_WORD, first, end)) {
        next = four_words(first / PER_WORD + lane + FOUR);
    }
    for (var spread = first / PER_WORD; spread < end_word; spread += LANES * SPREAD_WORDS) {
        let words = min(SPREAD_WORDS, (end_word - spread + LANES - 1u) / LANES);
        let best = common_exponent(spread + (lane % words) * LANES + lane, REACH - HEADROOM, first, end, lane);
        if (spread == first / PER_WORD) {
            set_focus(best);
        }
        // No higher than the largest exponent of a number: what is none must not fit.
        window.top = min(best + HEADROOM, 254u);
        for (var i = 0u; i < words; i += WIDEN_WORDS) {
            next = read_round(&window, spread + i * LANES, next, first, end, lane);
        }
        flush_alike(&window, lane);
        spread_carries(lane);
    }
}

// Empty windows that lie alike into the digits. Uniform flow; one barrier, and none behind the last addition. A lane has at most 512 entries: the sums of
// its limbs are below 2^23, those of the halves of its products below 2^21, and of 256 lanes together both fit a word.
fn flush_alike(window: ptr<function, Window>, lane: u32) {
    widen_products(window);
    let speaker = is_speaker();
    add_three(0u, joined_3((*window).limbs), speaker);
    add_three(3u, joined_3((*window).low_0), speaker);
    add_three(6u, joined_3((*window).low_16), speaker);
    add_three(9u, joined_3((*window).high_0), speaker);
    add_three(12u, joined_3((*window).high_16), speaker);
    let top = (*window).top;
    *window = Window();
    (*window).top = top;
    workgroupBarrier();
    if (lane < WINDOW_WORDS) {
        let value = vec4<u32>(atomicExchange(&wg_window[lane], 0u), 0u, 0u, 0u);
        if (lane < 3u) {
            deposit(SUM, top - 1u + LIMB * lane, value, 1u);
        } else {
            // Products of limbs a and b count twice where a is not b, and lie LIMB * (a + b) above the first.
            let half = (lane / 3u + 1u) % 2u;
            let high = lane / 9u;
            let both = lane % 3u + 2u * high;
            let twice = u32((both & 1u) == 1u || (high == 1u && both == 2u));
            deposit(SQUARE, 2u * (top - 1u) + LIMB * both + 16u * half + twice, value, 1u);
        }
    }
}

fn add_three(at: u32, values: vec3<u32>, speaker: bool) {
    if (speaker) {
        atomicAdd(&wg_window[at], values.x);
        atomicAdd(&wg_window[at + 1u], values.y);
        atomicAdd(&wg_window[at + 2u], values.z);
    }
}

// `WIDEN_WORDS` words a lane, of which those past the last are none. The first four have been asked for, and the four behind the last are.
fn read_round(window: ptr<function, Window>, start: u32, asked: vec4<u32>, first: u32, end: u32, lane: u32) -> vec4<u32> {
    var strays = 0u;
    var next = asked;
    let lowest = window_lowest((*window).top);
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    for (var j = 0u; j < WIDEN_WORDS; j += 4u) {
        let four = start + j * LANES;
        let place = j * PER_WORD;
        let words = next;
        if (all_ours(four + 4u * LANES, first, end)) {
            next = four_words(four + 4u * LANES + lane + FOUR);
        }
        if (all_ours(four, first, end)) {
            let at = four + lane + FOUR;
            for (var half = 0u; half < PER_WORD; half += 1u) {
                strays |= read_four(window, keys_of(words, half, at * PER_WORD + half), lowest) << (place + half);
            }
        } else {
            for (var word_at = four + lane; word_at < min(four + 4u * LANES, end_word); word_at += LANES) {
                for (var half = 0u; half < PER_WORD; half += 1u) {
                    let entry = word_at * PER_WORD + half;
                    if (entry >= first && entry < end) {
                        let key = key_of(widen(weights[word_at], half), entry);
                        strays |= read_key(window, key) << (place + (word_at - four) / LANES * PER_WORD + half);
                    }
                }
            }
        }
    }
    while (strays != 0u) {
        let i = firstTrailingBit(strays);
        strays &= strays - 1u;
        let word_at = start + i / PER_WORD * LANES + lane;
        let entry = word_at * PER_WORD + i % PER_WORD;
        let weight = widen(weights[word_at], i % PER_WORD);
        let key = key_of(weight, entry);
        if (key >= KEY_END) {
            note_bad(bad_word(weight, entry));
        } else {
            deposit_score(key, true);
        }
    }
    widen_products(window);
    return next;
}

fn keys_of(words: vec4<u32>, half: u32, at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(
        key_of(widen(words.x, half), at.x),
        key_of(widen(words.y, half), at.y),
        key_of(widen(words.z, half), at.z),
        key_of(widen(words.w, half), at.w),
    );
}

// Four keys, of four words: their strays, a bit for each, PER_WORD apart. Nearly always there is none, and then less is to be asked.
fn read_four(window: ptr<function, Window>, keys: vec4<u32>, lowest: u32) -> u32 {
    let above = keys - my_focus;
    if (max(max(above.x, above.y), max(above.z, above.w)) < IN_FOCUS) {
        let bins = (my_focus >> COARSE_BITS) + (above >> vec4<u32>(FINE_BITS));
        atomicAdd(&wg_bins[bins.x], 1u);
        atomicAdd(&wg_bins[bins.y], 1u);
        atomicAdd(&wg_bins[bins.z], 1u);
        atomicAdd(&wg_bins[bins.w], 1u);
    } else {
        for (var i = 0u; i < 4u; i += 1u) {
            count_first(keys[i]);
        }
    }
    if (window_took(window, keys, lowest)) {
        return 0u;
    }
    var strays = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
        strays |= take_key(window, keys[i]) << (i * PER_WORD);
    }
    return strays;
}

fn read_key(window: ptr<function, Window>, key: u32) -> u32 {
    count_first(key);
    return take_key(window, key);
}

fn count_first(key: u32) {
    atomicAdd(&wg_bins[bin_of(key, my_focus)], 1u);
}

// 1 when it is a stray, or no number: `window_fits` says so of both. Lanes never part.
fn take_key(window: ptr<function, Window>, key: u32) -> u32 {
    let fits = window_fits((*window).top, key);
    window_take(window, key, u32(fits), true);
    return u32(!(fits | (key == 0u)));
}
