// From decisions to words of the mask. A tile is some words of weights a lane, with at most 32 entries. Each lane keeps a bit per entry; then each
// lane gathers the 32 bits of a mask word from the lanes that saw its entries.

@group(0) @binding(6) var<storage, read_write> mask: array<atomic<u32>>;

const TILE_WORDS: u32 = min(MOST_TILE_WORDS, 32u / PER_WORD);
const TILE_ENTRIES: u32 = LANES * TILE_WORDS * PER_WORD;
// Words of weights that make a word of the mask.
const MASK_SPAN: u32 = 32u / PER_WORD;

// A word is left out after those of a mask word's lanes, so that lanes that gather read different banks.
fn set_flags(lane: u32, flags: u32) {
    atomicStore(&wg_lane_words[lane + lane / MASK_SPAN], flags);
}

// The bits of the tile's mask word number `number`.
fn gather(number: u32) -> u32 {
    let first = number * MASK_SPAN;
    let at = first % LANES / MASK_SPAN * (MASK_SPAN + 1u);
    // Their bits go to the top of a word, and from there to the bottom of ours: two shifts, for hardware that shifts two words as one.
    let shift = 32u - PER_WORD - first / LANES * PER_WORD;
    var word = 0u;
    for (var j = MASK_SPAN; j > 0u; j -= 1u) {
        word = (word << PER_WORD) | ((atomicLoad(&wg_lane_words[at + j - 1u]) << shift) >> (32u - PER_WORD));
    }
    return word;
}

// Write the bits of entries first..end; the last entry of the slice brings the unused bits behind it.
fn write_mask(at: u32, bits: u32, first: u32, end: u32) {
    var ours = 0xffffffffu;
    if (at * 32u < first) {
        ours &= 0xffffffffu << (first - at * 32u);
    }
    if (at * 32u + 32u > end && end != params.len) {
        ours &= 0xffffffffu >> (at * 32u + 32u - end);
    }
    if (ours == 0xffffffffu) {
        atomicStore(&mask[at], bits);
    } else {
        atomicAnd(&mask[at], ~ours);
        atomicOr(&mask[at], bits & ours);
    }
}
