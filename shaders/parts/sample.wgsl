// What a first read begins with: a sample of the scores.
//
// Rust twin: src/cpu/windows.rs

// How many entries have each first digit.
var<workgroup> wg_bins: array<atomic<u32>, COUNTERS>;
// The first key in focus: see parts/first_digit.wgsl.
var<private> my_focus: u32;
// Of a sample, which exponent is the best, and how many are near it.
var<workgroup> wg_top: atomic<u32>;

fn clear_sample(lane: u32) {
    for (var e = lane; e < 256u; e += LANES) {
        atomicStore(&wg_lane_words[e], 0u);
    }
    if (lane == 0u) {
        atomicStore(&wg_top, 0u);
    }
}

// The exponent that most of a sample is not above, nor more than `reach` below; or the one whose window begins at the focus, if there is one and that window,
// with its headroom, holds nearly as many. The sample: the first entry of one word a lane. What `clear_sample` clears is clear. Uniform flow; two barriers.
fn common_exponent(word_at: u32, reach: u32, headroom: u32, first: u32, end: u32, lane: u32) -> u32 {
    let entry = word_at * PER_WORD;
    if (entry >= first && entry < end) {
        let key = key_of(widen(weights[word_at], 0u), entry);
        if (key != 0u && key < KEY_END) {
            atomicAdd(&wg_lane_words[exponent(key)], 1u);
        }
    }
    workgroupBarrier();
    // Where several hold as many, the one that reaches furthest down.
    var best = 0u;
    let preferred = (my_focus >> 23u) + reach;
    for (var e = lane; e < 256u; e += LANES) {
        var held = 0u;
        for (var below = 0u; below <= min(e, reach); below += 1u) {
            held += atomicLoad(&wg_lane_words[e - below]);
        }
        if (my_focus != 0u && e == preferred) {
            for (var above = 1u; above <= headroom; above += 1u) {
                held += atomicLoad(&wg_lane_words[e + above]);
            }
            held += LANES / 64u;
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
