// Carry a decision out on some entries of one contest: mask bits, zeroed losers, the sum of what is kept.
//
// A word of the mask or of the weights that a neighbouring contest shares is touched by atomics (mask) or left to the stage `edges`
// (weights), so bits that are not ours are never written.
//
// In which order is another part's choice: parts/carry_forward.wgsl or parts/carry_back.wgsl.
//
// Rust twin: src/cpu/apply.rs.

// Of a tile, a bit for each of the lane's entries: those that are kept, and of them the candidates.
var<private> my_kept: u32;
var<private> my_found: u32;
// Candidates are the keys of so many values from the threshold on.
var<private> my_width: u32;

// Four words a lane, from word `four` on, which are number `i` of a lane's in the tile and those behind it. Kept are the entries whose key is above `threshold`, and
// those that equal it before entry `limit`.
fn carry_four(words: vec4<u32>, four: u32, i: u32, threshold: u32, limit: u32, first: u32, end: u32, lane: u32) {
    let at = my_four(four, lane);
    let ours = all_ours(four, first, end, lane);
    let ties_lose = four * PER_WORD >= limit;
    let is_limit_apart = ties_lose | ((four + 4u * LANES) * PER_WORD <= limit);
    let least = threshold + u32(ties_lose);
    if (ours & is_limit_apart) {
        begin_four();
        let w = carry_word(words.w, at.w, least);
        let z = carry_word(words.z, at.z, least);
        let y = carry_word(words.y, at.y, least);
        let x = carry_word(words.x, at.x, least);
        keep_four(at, words, vec4<u32>(x, y, z, w));
        note_four(i);
    } else if (!IN_FOURS && MEETS_ENDS && is_limit_apart && first % PER_WORD == 0u && end % PER_WORD == 0u) {
        begin_four();
        carry_ours(words.w, at.w, least, first, end);
        carry_ours(words.z, at.z, least, first, end);
        carry_ours(words.y, at.y, least, first, end);
        carry_ours(words.x, at.x, least, first, end);
        note_four(i);
    } else if (!IN_FOURS) {
        for (var j = 0u; j < 4u; j += 1u) {
            carry_some(at[j], words[j], i + j, threshold, limit, first, end);
        }
    } else if (ours) {
        decide_four(words, at, i, threshold, limit);
    }
}

// Four words that lie together and are ours, entry by entry.
fn decide_four(words: vec4<u32>, at: vec4<u32>, i: u32, threshold: u32, limit: u32) {
    let x = decide_word(words.x, at.x, i, threshold, limit);
    let y = decide_word(words.y, at.y, i + 1u, threshold, limit);
    let z = decide_word(words.z, at.z, i + 2u, threshold, limit);
    let w = decide_word(words.w, at.w, i + 3u, threshold, limit);
    keep_four(at, words, vec4<u32>(x, y, z, w));
}

// A word that is ours: the bits of what is kept.
fn decide_word(word: u32, word_at: u32, i: u32, threshold: u32, limit: u32) -> u32 {
    var bits = 0u;
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let at = word_at * PER_WORD + half;
        bits |= entry_bits(half) * is_ahead(key_of(widen(word, half), at), at, i * PER_WORD + half, threshold, limit);
    }
    return bits;
}

// What is written together with entry `at`, its word or four: who looks at another entry of that writes the same.
fn carry_entry(at: u32, threshold: u32, limit: u32, first: u32, end: u32) {
    let word_at = at / PER_WORD;
    if (IN_FOURS) {
        let four = word_at / 4u * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        decide_four(words_at(four), four, 0u, threshold, limit);
    } else {
        carry_some(word_at, load_word(word_at), 0u, threshold, limit, first, end);
    }
}

// A word that is ours as a whole, or not at all.
fn carry_ours(word: u32, word_at: u32, least: u32, first: u32, end: u32) {
    if (word_at * PER_WORD >= first && word_at * PER_WORD < end) {
        keep_bits(word_at, word, carry_word(word, word_at, least));
    } else {
        pass_word();
    }
}

// What the four words say goes to the tile's flags.
fn note_four(i: u32) {
    let kept = kept_of_four();
    my_kept |= kept << (i * PER_WORD);
    my_found |= (kept & low_of_four()) << (i * PER_WORD);
}

// What follows when a tile's entries are decided. Uniform flow. Leaves the sum of kept scores, of this workgroup and but for candidates, in `wg_digits`.
fn carry_tile(range: Range, tile: u32, window: ptr<function, Window>, lane: u32) {
    collect(range.group, tile, my_found, lane);
    if (params.mask != 0u) {
        set_flags(lane, my_kept);
        workgroupBarrier();
        let mask_word = tile / 32u + lane;
        if (lane < TILE_ENTRIES / 32u && mask_word * 32u < range.end) {
            write_mask(mask_word, gather(lane), range.first, range.end);
        }
    }
    hand_over(range.group, LIST / 2u, lane);
    if (HAS_MASS) {
        add_kept(window, tile, my_kept & ~my_found, lane);
        windows_flush(window);
        spread_carries(lane);
    }
}

// Flags of four words.
const FOUR_FLAGS: u32 = (1u << (4u * PER_WORD)) - 1u;

// A word at the range's edge, or none of its; the lane's word number `i` of the tile.
fn carry_some(word_at: u32, word: u32, i: u32, threshold: u32, limit: u32, first: u32, end: u32) {
    var bits = 0u;
    var ours = 0u;
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let at = word_at * PER_WORD + half;
        if (at >= first && at < end) {
            ours += 1u;
            let key = key_of(widen(word, half), at);
            bits |= entry_bits(half) * is_ahead(key, at, i * PER_WORD + half, threshold, limit);
        }
    }
    if (ours == PER_WORD) {
        keep_bits(word_at, word, bits);
    }
}

// 1 when an entry is kept, and the note of it. Without a branch: neighbours differ.
fn is_ahead(key: u32, at: u32, place: u32, threshold: u32, limit: u32) -> u32 {
    let kept = u32(key >= threshold + u32(at >= limit));
    my_kept |= kept << place;
    my_found |= (kept & u32(key - threshold < my_width)) << place;
    return kept;
}

// Kept words have not changed: another look at them, from a cache, keeps the sums out of the loop above.
fn add_kept(window: ptr<function, Window>, tile: u32, kept: u32, lane: u32) {
    for (var place = 0u; place < TILE_WORDS * PER_WORD; place += 1u) {
        if (((kept >> place) & 1u) == 1u) {
            let word_at = nth_word(tile / PER_WORD, place / PER_WORD, lane);
            let half = place % PER_WORD;
            window_add(window, key_of(widen(load_word(word_at), half), word_at * PER_WORD + half), false);
        }
    }
}
