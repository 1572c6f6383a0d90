// Words of the mask where a lane's four words are neighbours: it knows the bits of each four in their order. The other choice is parts/gather_strided.wgsl.

// Bits of a four, and lanes whose fours make a word of the mask.
const FOUR_BITS: u32 = 4u * PER_WORD;
const MASK_LANES: u32 = 32u / FOUR_BITS;

// A word is left out after every eight, so that lanes that gather read different banks.
fn set_flags(lane: u32, flags: u32) {
    atomicStore(&wg_lane_words[lane + lane / 8u], flags);
}

// The bits of the tile's mask word number `number`.
fn gather(number: u32) -> u32 {
    let first = number * MASK_LANES;
    let lane = first % LANES;
    let at = lane + lane / 8u;
    // Their bits go to the top of a word, and from there to the bottom of ours: two shifts, for hardware that shifts two words as one.
    let shift = 32u - FOUR_BITS - first / LANES * FOUR_BITS;
    var word = 0u;
    for (var j = MASK_LANES; j > 0u; j -= 1u) {
        word = (word << FOUR_BITS) | ((atomicLoad(&wg_lane_words[at + j - 1u]) << shift) >> (32u - FOUR_BITS));
    }
    return word;
}
