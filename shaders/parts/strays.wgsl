// Strays that are listed: scores that lie outside what a first read adds up together. They are added to the digits one by one when it is over: that takes many
// registers, and none is to be kept for it meanwhile. Where there are more than the list holds, they are sought in another read. The other choice is
// parts/strays_none.wgsl.

// How many powers of two below all that is added up together a stray may lie to be near.
const NEAR: u32 = 8u;

// Words with 32 entries.
const STRAY_WORDS: u32 = 32u / PER_WORD;

var<workgroup> wg_strays: array<u32, MOST_STRAYS>;
var<workgroup> wg_stray_count: atomic<u32>;
// Those that a lane has met since the list is full: where they are many, lanes would wait for each other at one counter.
var<private> my_more_strays: u32;

fn clear_strays(lane: u32) {
    my_more_strays = 0u;
    if (lane == 0u) {
        atomicStore(&wg_stray_count, 0u);
    }
}

fn take_stray(key: u32) {
    if (atomicLoad(&wg_stray_count) > MOST_STRAYS) {
        my_more_strays += 1u;
        return;
    }
    let number = atomicAdd(&wg_stray_count, 1u);
    if (number < MOST_STRAYS) {
        wg_strays[number] = key;
    }
}

// At the end of the read, for who asks how many there are: until then all that is sure is whether they are more than the list holds.
fn hand_in_strays() {
    if (my_more_strays != 0u) {
        atomicAdd(&wg_stray_count, my_more_strays);
    }
}

// Add them by the read's `add_stray`; its `is_stray` says which they are. A barrier before, and none behind.
fn add_strays(first: u32, end: u32, lane: u32) {
    let count = atomicLoad(&wg_stray_count);
    if (count <= MOST_STRAYS) {
        for (var i = lane; i < count; i += LANES) {
            add_stray(wg_strays[i]);
        }
        return;
    }
    // Four words are asked for at once, and strays taken after every 32 entries a lane, which wait for the lane with the most of them.
    for (var start = first / PER_WORD; start * PER_WORD < end; start += STRAY_WORDS * LANES) {
        var strays = 0u;
        for (var i = 0u; i < STRAY_WORDS; i += 4u) {
            let words = words_up_to(start + i * LANES, end, lane);
            let at = my_four(start + i * LANES, lane);
            for (var j = 0u; j < 4u; j += 1u) {
                for (var half = 0u; half < PER_WORD; half += 1u) {
                    let entry = at[j] * PER_WORD + half;
                    let counts = is_stray(key_of(widen(words[j], half), entry)) & (entry >= first) & (entry < end);
                    strays |= u32(counts) << ((i + j) * PER_WORD + half);
                }
            }
        }
        while (strays != 0u) {
            let i = firstTrailingBit(strays);
            strays &= strays - 1u;
            let entry = nth_word(start, i / PER_WORD, lane) * PER_WORD + i % PER_WORD;
            add_stray(key_of(widen(load_word(entry / PER_WORD), entry % PER_WORD), entry));
        }
    }
}
