// Carry a decision out on some entries of one contest: mask bits, zeroed losers, the sum of what is kept.
//
// A word of the mask or of the weights that a neighbouring contest shares is touched by atomics (mask) or left to the stage `edges`
// (weights), so bits that are not ours are never written.
//
// Rust twin: src/cpu/apply.rs.

// Kept are the entries of a range whose key is above `threshold`, and those that equal it before entry `limit`. Uniform flow: every argument but
// `lane` is the same for the workgroup. Leaves the sum of kept scores, of this workgroup and but for candidates, in `wg_digits`.
fn carry_out(range: Range, threshold: u32, limit: u32, lane: u32) {
    let first = range.first;
    let end = range.end;
    clear_digits(lane);
    workgroupBarrier();
    var window = Window();
    // Tiles start at a word of the mask.
    for (var tile = first & ~31u; tile < end; tile += TILE_ENTRIES) {
        var flags = 0u;
        var found = 0u;
        for (var i = 0u; i < TILE_WORDS; i += 1u) {
            let word_at = tile / PER_WORD + i * LANES + lane;
            if (word_at * PER_WORD < end) {
                let word = weights[word_at];
                var bits = 0u;
                var ours = 0u;
                for (var half = 0u; half < PER_WORD; half += 1u) {
                    let at = word_at * PER_WORD + half;
                    if (at >= first && at < end) {
                        ours += 1u;
                        let key = key_of(widen(word, half), at);
                        if (key > threshold || (key == threshold && at < limit)) {
                            bits |= entry_bits(half);
                            flags |= 1u << (i * PER_WORD + half);
                            if (is_candidate(key, threshold)) {
                                found |= 1u << (i * PER_WORD + half);
                            } else if (params.mass != 0u) {
                                window_add(&window, key, false);
                            }
                        }
                    }
                }
                if (ours == PER_WORD) {
                    keep_bits(word_at, bits);
                }
            }
        }
        collect(range.group, tile, found, lane);
        if (params.mask != 0u) {
            wg_flags[lane] = flags;
            workgroupBarrier();
            let mask_word = tile / 32u + lane;
            if (lane < TILE_ENTRIES / 32u && mask_word * 32u < end) {
                write_mask(mask_word, gather(lane), first, end);
            }
        }
        if (params.mass != 0u) {
            windows_flush(&window, false);
            spread_carries(lane);
        } else {
            workgroupBarrier();
        }
    }
}
