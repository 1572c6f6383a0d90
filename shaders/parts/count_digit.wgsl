// Counting a digit in `wg_bins`, among those of a workgroup's entries whose key agrees with the threshold as far as it is known.
//
// Rust twin: src/cpu/histogram.rs

// Keys count from `low` on, but for the lowest `left` bits. Bins are clear. A barrier must follow.
fn count_digit(first: u32, end: u32, low: u32, left: u32, lane: u32) {
    my_bin = 0u;
    my_count = 0u;
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    for (var start = first / PER_WORD; start < end_word; start += 4u * LANES) {
        if (all_ours(start, first, end, lane)) {
            let at = my_four(start, lane);
            let words = words_at(at);
            for (var half = 0u; half < PER_WORD; half += 1u) {
                count_key(key_of(widen(words.x, half), at.x * PER_WORD + half), low, left);
                count_key(key_of(widen(words.y, half), at.y * PER_WORD + half), low, left);
                count_key(key_of(widen(words.z, half), at.z * PER_WORD + half), low, left);
                count_key(key_of(widen(words.w, half), at.w * PER_WORD + half), low, left);
            }
        } else if (!IN_FOURS) {
            for (var word_at = start + lane; word_at < min(start + 4u * LANES, end_word); word_at += LANES) {
                for (var half = 0u; half < PER_WORD; half += 1u) {
                    let entry = word_at * PER_WORD + half;
                    if (entry >= first && entry < end) {
                        count_key(key_of(widen(load_word(word_at), half), entry), low, left);
                    }
                }
            }
        }
    }
    end_run();
}

fn count_key(key: u32, low: u32, left: u32) {
    if (key - low < (1u << left)) {
        count_in((key - low) >> digit_shift(left));
    }
}
