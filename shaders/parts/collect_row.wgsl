// Carrying out all that the first digit decides about a row, and noting what it does not: the entries in its bin, counted from the row's first.
// They lie in the upper half of the bins, which the digits after the first leave free.

const ROOM: u32 = BINS - LOW_BINS;
var<workgroup> wg_found: atomic<u32>;
// Whether entries are noted.
var<private> my_sifting: bool;
var<private> my_origin: u32;

fn collects() -> bool {
    return my_sifting;
}

// The tile's candidates, marked in each lane's `flags`. There is room: `row_narrow` has counted them.
fn collect(group: u32, tile: u32, flags: u32, lane: u32) {
    if (flags == 0u) {
        return;
    }
    var place = LOW_BINS + atomicAdd(&wg_found, countOneBits(flags));
    var left = flags;
    while (left != 0u) {
        let bit = firstTrailingBit(left);
        left &= left - 1u;
        let word_at = tile / PER_WORD + (bit / PER_WORD) * LANES + lane;
        atomicStore(&wg_bins[place], word_at * PER_WORD + bit % PER_WORD - my_origin);
        place += 1u;
    }
}
