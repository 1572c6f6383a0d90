// A lane's words lie LANES apart: of a contest that begins or ends anywhere. The other choice is parts/words_fours.wgsl.

const IN_FOURS: bool = false;

// The places of a lane's four words from `start` on.
fn my_four(start: u32, lane: u32) -> vec4<u32> {
    return start + lane + FOUR;
}

// The place of its word number `i`.
fn nth_word(start: u32, i: u32, lane: u32) -> u32 {
    return start + i * LANES + lane;
}

// A lane's four words, of which those that lie outside the range are some of it.
fn words_of(start: u32, first: u32, end: u32, lane: u32) -> vec4<u32> {
    let at = my_four(start, lane);
    if (all_ours(start, first, end, lane)) {
        return words_at(at);
    }
    if (start * PER_WORD >= end) {
        return vec4<u32>(0u);
    }
    return words_at(clamp(at, vec4<u32>(first / PER_WORD), vec4<u32>((end - 1u) / PER_WORD)));
}

// The same where none lies before the range: of those behind it all are its last one, and no lane asks which these are.
fn words_up_to(start: u32, end: u32, lane: u32) -> vec4<u32> {
    return words_at(min(my_four(start, lane), vec4<u32>((end - 1u) / PER_WORD)));
}

// Whether all entries of the workgroup's four words a lane are ours. The same for all lanes.
fn all_ours(start: u32, first: u32, end: u32, lane: u32) -> bool {
    return (start * PER_WORD >= first) & ((start + 4u * LANES) * PER_WORD <= end);
}

// The same of words that begin with the range's first one, or behind it.
fn are_ours(start: u32, first: u32, end: u32, lane: u32) -> bool {
    return (PER_WORD == 1u || start * PER_WORD >= first) & ((start + 4u * LANES) * PER_WORD <= end);
}
