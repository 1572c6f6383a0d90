// What a first read begins with: a sample of the scores.
//
// Rust twin: src/cpu/stats.rs (`sample`)

// How many entries have each first digit.
var<workgroup> wg_bins: array<atomic<u32>, COUNTERS>;
// The first key in focus: see parts/first_digit.wgsl.
var<private> my_focus: u32;
// Of a sample, which exponent is the best, and how many are near it. Exponents are counted behind a few words that stay zero, so that no lane that adds up
// its neighbours below has to ask where they end: that loop is one of constant length.
const BELOW_ALL: u32 = 16u;
// Words in 32 bytes.
const RUN_WORDS: u32 = 8u;
var<workgroup> wg_top: atomic<u32>;

fn clear_sample(lane: u32) {
    for (var e = 0u; e < 256u; e += LANES) {
        atomicStore(&wg_lane_words[BELOW_ALL + e + lane], 0u);
    }
    if (lane < BELOW_ALL) {
        atomicStore(&wg_lane_words[lane], 0u);
    }
    if (lane == 0u) {
        atomicStore(&wg_top, 0u);
    }
}

// The exponent that most of a sample is not above, nor more than `reach` below; or the one whose window begins at the focus, if there is one and that window,
// with its headroom, holds nearly as many. `reach` is at most BELOW_ALL. What `clear_sample` clears is clear. Uniform flow; barriers inside.
//
// The sample: an entry of each run of 32 bytes, which is what memory hands out at once. Nearly all of them are on their way to a cache then, asked for in one
// go: the read that follows does not wait for memory again and again. Where they are more than eight a lane, one a lane, evenly spread.
fn common_exponent(reach: u32, headroom: u32, first: u32, end: u32, lane: u32) -> u32 {
    let first_word = first / PER_WORD;
    let last_word = (end - 1u) / PER_WORD;
    let runs = (last_word - first_word) / RUN_WORDS + 1u;
    var sampled = runs;
    if (runs > 8u * LANES) {
        sampled = LANES;
        let at = first_word + lane * (runs / LANES) * RUN_WORDS + lane % RUN_WORDS;
        count_sampled(load_word(at), at, first, end);
    } else {
        // Not always the first word of a run: that may be a column of a matrix.
        let run = lane + FOUR;
        let at = first_word + run * RUN_WORDS + (run & vec4<u32>(RUN_WORDS - 1u));
        let words = words_at(min(at, vec4<u32>(last_word)));
        if (runs > 4u * LANES) {
            let others = words_at(min(at + 4u * LANES * RUN_WORDS, vec4<u32>(last_word)));
            count_four_sampled(words, at, first, end);
            count_four_sampled(others, at + 4u * LANES * RUN_WORDS, first, end);
        } else {
            count_four_sampled(words, at, first, end);
        }
    }
    workgroupBarrier();
    // Where several hold as many, the one that reaches furthest down.
    var best = 0u;
    let preferred = (my_focus >> 23u) + reach;
    for (var e = lane; e < 256u; e += LANES) {
        var held = 0u;
        for (var below = 0u; below <= reach; below += 1u) {
            held += atomicLoad(&wg_lane_words[BELOW_ALL + e - below]);
        }
        if (my_focus != 0u && e == preferred) {
            for (var above = 1u; above <= headroom; above += 1u) {
                held += atomicLoad(&wg_lane_words[BELOW_ALL + e + above]);
            }
            held += sampled / 64u;
        }
        best = max(best, (held << 8u) | (255u - e));
    }
    best = joined_max(best);
    if (is_speaker()) {
        atomicMax(&wg_top, best);
    }
    workgroupBarrier();
    return 255u - (atomicLoad(&wg_top) & 0xffu);
}

fn count_four_sampled(words: vec4<u32>, at: vec4<u32>, first: u32, end: u32) {
    count_sampled(words.x, at.x, first, end);
    count_sampled(words.y, at.y, first, end);
    count_sampled(words.z, at.z, first, end);
    count_sampled(words.w, at.w, first, end);
}

// The first entry of a word, if it is ours.
fn count_sampled(word: u32, word_at: u32, first: u32, end: u32) {
    let entry = word_at * PER_WORD;
    let key = key_of(widen(word, 0u), entry);
    if (entry >= first && entry < end && key != 0u && key < KEY_END) {
        atomicAdd(&wg_lane_words[BELOW_ALL + exponent(key)], 1u);
    }
}
