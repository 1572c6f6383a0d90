// Carrying out from the first word to the last. The other choice is parts/carry_back.wgsl.

// Few workgroups meet an end of a contest.
const MEETS_ENDS: bool = false;

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
    // The next four words are asked for before these are worked on.
    var next = words_of((first & ~31u) / PER_WORD, first, end, lane);
    // Tiles start at a word of the mask.
    for (var tile = first & ~31u; tile < end; tile += TILE_ENTRIES) {
        my_kept = 0u;
        my_found = 0u;
        for (var i = 0u; (i < TILE_WORDS) & ((tile / PER_WORD + i * LANES) * PER_WORD < end); i += 4u) {
            let four = tile / PER_WORD + i * LANES;
            let words = next;
            next = words_of(four + 4u * LANES, first, end, lane);
            carry_four(words, four, i, threshold, limit, first, end, lane);
        }
        carry_tile(range, tile, &window, lane);
    }
}
