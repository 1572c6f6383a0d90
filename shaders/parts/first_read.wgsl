// The first read of some entries by one workgroup: the exact sums of their scores and squares, and in `wg_bins` how many have each first digit.
//
// Most scores lie within 16 powers of two of each other, and are added in windows that lie alike in all lanes: mostly where the focus of the first digit
// lies. The others, strays, are marked and taken one by one after every 32 entries, by the stage's `take_stray`: lanes wait then for the lane with the most of
// them, and not at every entry for some lane.
//
// Rust twin: src/cpu/stats.rs

// Words of `wg_bins`.
const COUNTERS: u32 = max(BINS, LEAST_COUNTERS);

// The windows of all lanes, added up: limbs, then products as a `Window` has them.
var<workgroup> wg_window: array<atomic<u32>, WINDOW_WORDS>;
const WINDOW_WORDS: u32 = 15u;
// The largest exponent that fits them.
var<private> my_top: u32;

// Words that a lane takes before strays are seen to, before products would outgrow theirs, and before carries are spread.
const ROUND_WORDS: u32 = 32u / PER_WORD;
const PRODUCT_WORDS: u32 = 64u / PER_WORD;
const SPREAD_WORDS: u32 = SPREAD / PER_WORD;

// How many places in focus lie in the window too: all or none. A key's place is twice how far it lies above the first key in focus. Keys are doubled because
// twice a word of f32 has no sign: one operation makes its place. Those below the focus have none there, since the highest focus and its length are below
// 2^31 together.
var<private> my_span: u32;
const PLACES: u32 = 2u * IN_FOCUS;
// The hidden bit of a significand. No compiler knows that it is a constant: an instruction has room for one, and the mask of the mantissa is in it.
var<private> my_lead: u32;
// Of the entries of a round, a bit for each that is a stray.
var<private> my_strays: u32;

// Uniform flow. The caller has cleared `wg_bins`, and where MANY_SPREADS is true the digits too; else these are to be clear before `finish_sums`, which adds to
// them what is left in windows and in the list of strays. A score that is no number goes to the stage's `note_bad`; the rest is worth nothing then.
fn first_read(first: u32, end: u32, lane: u32) {
    var window = Window();
    if (lane < WINDOW_WORDS) {
        atomicStore(&wg_window[lane], 0u);
    }
    clear_strays(lane);
    let start = first / PER_WORD;
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    var next = ask_ahead(start, end, lane);
    let best = common_exponent(REACH - HEADROOM, HEADROOM, first, end, lane);
    // No higher than the largest exponent of a number: what is none must not fit.
    window.top = min(best + HEADROOM, 254u);
    my_top = window.top;
    set_focus(window.top);
    // Where focus and window are the same one comparison tells of both.
    my_span = PLACES * u32(my_focus != 0u && my_focus == window_lowest(window.top));
    my_lead = 0x800000u | (params.digits >> 16u);
    var at = start;
    while (at < end_word) {
        for (var share = 0u; share < SHARE; share += 1u) {
            for (var round = 0u; round < PRODUCT_WORDS / ROUND_WORDS; round += 1u) {
                read_round(&window, &next, at, first, end, lane);
                at += ROUND_WORDS * LANES;
            }
            widen_products(&window);
        }
        share_window(&window);
        if (MANY_SPREADS && ((at - start) % (SPREAD_WORDS * LANES) == 0u || at >= end_word)) {
            workgroupBarrier();
            deposit_windows(lane);
            spread_carries(lane);
        }
    }
}

// Uniform flow; barriers inside. Nothing is left in the windows.
fn finish_sums(first: u32, end: u32, lane: u32) {
    if (!MANY_SPREADS) {
        workgroupBarrier();
        deposit_windows(lane);
    }
    add_strays(first, end, lane);
    spread_carries(lane);
}

// Add up the windows of all lanes, which lie alike. A lane has at most 2048 entries before they are deposited: the sums of its limbs are below 2^24, those of
// the halves of its products below 2^21, and of 256 lanes together both fit a word.
fn share_window(window: ptr<function, Window>) {
    // All that lanes join before any of them goes its own way: the one that speaks must be the one that all of them have told.
    let limbs = joined_3((*window).limbs);
    let low_0 = joined_3((*window).low_0);
    let low_16 = joined_3((*window).low_16);
    let high_0 = joined_3((*window).high_0);
    let high_16 = joined_3((*window).high_16);
    if (is_speaker()) {
        add_three(0u, limbs);
        add_three(3u, low_0);
        add_three(6u, low_16);
        add_three(9u, high_0);
        add_three(12u, high_16);
    }
    let top = (*window).top;
    *window = Window();
    (*window).top = top;
}

// Empty what was shared into the digits.
fn deposit_windows(lane: u32) {
    if (lane < WINDOW_WORDS) {
        let value = vec4<u32>(atomicExchange(&wg_window[lane], 0u), 0u, 0u, 0u);
        var base = SUM;
        var at = my_top + SCORE_AT - REACH;
        if (lane < 3u) {
            at += LIMB * lane;
        } else {
            // Products of limbs a and b count twice where a is not b, and lie LIMB * (a + b) above the first.
            let half = (lane / 3u + 1u) % 2u;
            let high = lane / 9u;
            let both = lane % 3u + 2u * high;
            let twice = u32((both & 1u) == 1u || (high == 1u && both == 2u));
            base = SQUARE;
            at = 2u * at + LIMB * both + 16u * half + twice;
        }
        deposit(base, at, value, 1u);
    }
}

fn add_three(at: u32, values: vec3<u32>) {
    atomicAdd(&wg_window[at], values.x);
    atomicAdd(&wg_window[at + 1u], values.y);
    atomicAdd(&wg_window[at + 2u], values.z);
}

// `ROUND_WORDS` words a lane, of which those past the last are none. The first few have been asked for, and those behind the last are.
fn read_round(window: ptr<function, Window>, next: ptr<function, Ahead>, start: u32, first: u32, end: u32, lane: u32) {
    my_strays = 0u;
    for (var j = 0u; (j < ROUND_WORDS) & ((start + j * LANES) * PER_WORD < end); j += AHEAD_WORDS) {
        read_ahead(window, next, start + j * LANES, j, first, end, lane);
    }
    var strays = my_strays;
    while (strays != 0u) {
        let i = firstTrailingBit(strays);
        strays &= strays - 1u;
        let word_at = nth_word(start, i / PER_WORD, lane);
        let entry = word_at * PER_WORD + i % PER_WORD;
        let weight = widen(load_word(word_at), i % PER_WORD);
        let key = key_of(weight, entry);
        if (key >= KEY_END) {
            note_bad(bad_word(weight, entry));
        } else {
            take_stray(key);
        }
    }
}

// The places of an entry of each of four words.
fn places_of(words: vec4<u32>, half: u32, at: vec4<u32>) -> vec4<u32> {
    let twice = vec4<u32>(
        twice_key_of(words.x, half, at.x),
        twice_key_of(words.y, half, at.y),
        twice_key_of(words.z, half, at.z),
        twice_key_of(words.w, half, at.w),
    );
    return twice - vec4<u32>(my_focus << 1u);
}

fn keys_at(places: vec4<u32>) -> vec4<u32> {
    return ((places >> vec4<u32>(1u)) + my_focus) & vec4<u32>(0x7fffffffu);
}

// Keys that are all in focus and in the window, by their places: half of one has the mantissa of its key.
fn take_four(window: ptr<function, Window>, places: vec4<u32>) {
    count_four(places);
    take_normal(window, places.x >> 1u, places.x, my_lead);
    take_normal(window, places.y >> 1u, places.y, my_lead);
    take_normal(window, places.z >> 1u, places.z, my_lead);
    take_normal(window, places.w >> 1u, places.w, my_lead);
}

fn count_four(places: vec4<u32>) {
    count_in_focus(places.x);
    count_in_focus(places.y);
    count_in_focus(places.z);
    count_in_focus(places.w);
}

// Keys of four words that are ours: their strays, a bit for each, PER_WORD apart.
fn read_four(window: ptr<function, Window>, places: vec4<u32>) -> u32 {
    let keys = keys_at(places);
    if (highest_of(places) < PLACES) {
        count_four(places);
    } else {
        for (var i = 0u; i < 4u; i += 1u) {
            count_first(keys[i]);
        }
    }
    if (window_took(window, keys, window_lowest((*window).top), my_lead)) {
        return 0u;
    }
    var strays = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
        strays |= take_key(window, keys[i]) << (i * PER_WORD);
    }
    return strays;
}

// The same of those entries that are ours.
fn read_some(window: ptr<function, Window>, places: vec4<u32>, entries: vec4<u32>, first: u32, end: u32) -> u32 {
    let keys = keys_at(places);
    var strays = 0u;
    for (var i = 0u; i < 4u; i += 1u) {
        if (entries[i] >= first && entries[i] < end) {
            if (places[i] < my_span) {
                count_in_focus(places[i]);
                take_normal(window, keys[i], places[i], my_lead);
            } else {
                count_first(keys[i]);
                strays |= take_key(window, keys[i]) << (i * PER_WORD);
            }
        }
    }
    return strays;
}

fn highest_of(places: vec4<u32>) -> u32 {
    return max(max(places.x, places.y), max(places.z, places.w));
}

fn count_in_focus(place: u32) {
    atomicAdd(&wg_bins[fine_bin(place >> 1u, my_focus)], 1u);
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

fn hand_in_bins(lane: u32) {
    for (var bin = lane; bin < BINS; bin += LANES) {
        count_in_bin(bin, atomicLoad(&wg_bins[bin]));
    }
}
