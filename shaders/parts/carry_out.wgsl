// Carry a decision out on some entries of one contest: mask bits, zeroed losers, the sum of what is kept.
//
// A word of the mask or of the weights that a neighbouring contest shares is touched by atomics (mask) or left to the stage `edges`
// (weights), so bits that are not ours are never written.
//
// Rust twin: src/cpu/apply.rs.

// Of a tile, a bit for each of the lane's entries: those that are kept, and of them the candidates.
var<private> my_kept: u32;
var<private> my_found: u32;

// Kept are the entries of a range whose key is above `threshold`, and those that equal it before entry `limit`. Uniform flow: every argument but
// `lane` is the same for the workgroup. Leaves the sum of kept scores, of this workgroup and but for candidates, in `wg_digits`.
fn carry_out(range: Range, threshold: u32, limit: u32, lane: u32) {
    let first = range.first;
    let end = range.end;
    clear_digits(lane);
    workgroupBarrier();
    var window = Window();
    // Nothing that is kept lies below the threshold.
    window.top = min(exponent(threshold) + REACH - HEADROOM, 254u);
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    // Tiles start at a word of the mask.
    for (var tile = first & ~31u; tile < end; tile += TILE_ENTRIES) {
        my_kept = 0u;
        my_found = 0u;
        // The next four words are asked for before these are worked on.
        var next = vec4<u32>(0u);
        if (all_ours(tile / PER_WORD, first, end)) {
            next = four_words(tile / PER_WORD + lane + FOUR);
        }
        for (var i = 0u; i < TILE_WORDS; i += 4u) {
            let four = tile / PER_WORD + i * LANES;
            let words = next;
            if (i + 4u < TILE_WORDS && all_ours(four + 4u * LANES, first, end)) {
                next = four_words(four + 4u * LANES + lane + FOUR);
            }
            if (all_ours(four, first, end)) {
                let at = four + lane + FOUR;
                carry_word(words.x, at.x, i, threshold, limit);
                carry_word(words.y, at.y, i + 1u, threshold, limit);
                carry_word(words.z, at.z, i + 2u, threshold, limit);
                carry_word(words.w, at.w, i + 3u, threshold, limit);
            } else {
                for (var word_at = four + lane; word_at < min(four + 4u * LANES, end_word); word_at += LANES) {
                    carry_some(word_at, i + (word_at - four) / LANES, threshold, limit, first, end);
                }
            }
        }
        collect(range.group, tile, my_found, lane);
        if (params.mask != 0u) {
            set_flags(lane, my_kept);
            workgroupBarrier();
            let mask_word = tile / 32u + lane;
            if (lane < TILE_ENTRIES / 32u && mask_word * 32u < end) {
                write_mask(mask_word, gather(lane), first, end);
            }
        }
        if (HAS_MASS) {
            add_kept(&window, tile, my_kept & ~my_found, lane);
            windows_flush(&window, false);
            spread_carries(lane);
        } else {
            workgroupBarrier();
        }
    }
}

// A word at the range's edge; the lane's word number `i` of the tile.
fn carry_some(word_at: u32, i: u32, threshold: u32, limit: u32, first: u32, end: u32) {
    var bits = 0u;
    var ours = 0u;
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let at = word_at * PER_WORD + half;
        if (at >= first && at < end) {
            ours += 1u;
            let key = key_of(widen(weights[word_at], half), at);
            bits |= entry_bits(half) * is_ahead(key, at, i * PER_WORD + half, threshold, limit);
        }
    }
    if (ours == PER_WORD) {
        keep_bits(word_at, weights[word_at], bits);
    }
}

// 1 when an entry is kept, and the note of it. Without a branch: neighbours differ.
fn is_ahead(key: u32, at: u32, place: u32, threshold: u32, limit: u32) -> u32 {
    let kept = u32((key > threshold) | ((key == threshold) & (at < limit)));
    my_kept |= kept << place;
    my_found |= (kept & u32(is_candidate(key, threshold))) << place;
    return kept;
}

// Where candidates are collected, the threshold is the lowest key of the bin that they are in.
fn is_candidate(key: u32, threshold: u32) -> bool {
    return collects() & ((key >> 20u) == (threshold >> 20u));
}

// Kept words have not changed: another look at them, from a cache, keeps the sums out of the loop above.
fn add_kept(window: ptr<function, Window>, tile: u32, kept: u32, lane: u32) {
    for (var place = 0u; place < TILE_WORDS * PER_WORD; place += 1u) {
        if (((kept >> place) & 1u) == 1u) {
            let word_at = tile / PER_WORD + place / PER_WORD * LANES + lane;
            let half = place % PER_WORD;
            window_add(window, key_of(widen(weights[word_at], half), word_at * PER_WORD + half), false);
        }
    }
}
