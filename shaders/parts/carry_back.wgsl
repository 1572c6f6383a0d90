// Carrying out from the last word to the first: a cache that does not hold all of a row that has just been read still holds the end of it. The other choice
// is parts/carry_forward.wgsl.

// Every row has one that is no multiple of what a workgroup takes at once.
const MEETS_ENDS: bool = true;

// Uniform flow: every argument but `lane` is the same for the workgroup.
fn carry_out(range: Range, threshold: u32, limit: u32, lane: u32) {
    let first = range.first;
    let end = range.end;
    if (HAS_MASS) {
        clear_digits(lane);
        workgroupBarrier();
    }
    var window = Window();
    // Nothing that is kept lies below the threshold.
    window.top = min(exponent(threshold) + REACH - HEADROOM, 254u);
    // Tiles start at a word of the mask.
    let begin = first & ~31u;
    let lowest = begin / PER_WORD;
    // The next four words are asked for before these are worked on.
    var next = words_of(lowest + (end - 1u - begin) / PER_WORD / (4u * LANES) * (4u * LANES), first, end, lane);
    for (var tiles = (end - begin + TILE_ENTRIES - 1u) / TILE_ENTRIES; tiles > 0u; tiles -= 1u) {
        let tile = begin + (tiles - 1u) * TILE_ENTRIES;
        my_kept = 0u;
        my_found = 0u;
        for (var left = min(TILE_WORDS, (end - 1u - tile) / PER_WORD / (4u * LANES) * 4u + 4u); left > 0u; left -= 4u) {
            let four = tile / PER_WORD + (left - 4u) * LANES;
            let words = next;
            // Behind the last four, which are the lowest, they are once more.
            next = words_of(max(four, lowest + 4u * LANES) - 4u * LANES, first, end, lane);
            carry_four(words, four, left - 4u, threshold, limit, first, end, lane);
        }
        carry_tile(range, tile, &window, lane);
    }
}
