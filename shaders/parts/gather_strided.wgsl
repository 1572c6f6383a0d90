// Words of the mask where a lane's words lie LANES apart. The other choice is parts/gather_fours.wgsl.

// Words of weights that make a word of the mask: each is another lane's.
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
