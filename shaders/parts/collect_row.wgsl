// Carrying out all that the first digit decides about a row, and noting what it does not: the entries whose keys are in its bin, counted from the row's
// first. They lie where the bins were, which have said all that they know; keys will lie before them (`row_rank`, which loads them all at once).

const ROOM: u32 = 512u;
var<workgroup> wg_found: atomic<u32>;
var<private> my_origin: u32;

// The tile's candidates, marked in each lane's `flags`. There is room: `row_narrow` has counted them.
fn collect(group: u32, tile: u32, flags: u32, lane: u32) {
    if (flags == 0u) {
        return;
    }
    var place = atomicAdd(&wg_found, countOneBits(flags));
    var left = flags;
    while (left != 0u) {
        let bit = firstTrailingBit(left);
        left &= left - 1u;
        let at = nth_word(tile / PER_WORD, bit / PER_WORD, lane) * PER_WORD + bit % PER_WORD;
        atomicStore(&wg_bins[ROOM + place], at - my_origin);
        place += 1u;
    }
}

// They stay here.
const LIST: u32 = 0u;

// A barrier where the next tile needs one, unless sums of what is kept come next: they begin with one.
fn hand_over(group: u32, most: u32, lane: u32) {
    if (!HAS_MASS && params.mask != 0u) {
        workgroupBarrier();
    }
}
