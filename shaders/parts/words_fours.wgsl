// A lane's four words are neighbours, loaded and written as one: of contests that begin and end at a multiple of four words, as nearly all do. A four is
// ours or it is not, all of it. One operation does what takes four of parts/words_strided.wgsl, and a lane knows neighbouring bits of the mask.

const IN_FOURS: bool = true;

// The places of a lane's four words from `start` on.
fn my_four(start: u32, lane: u32) -> vec4<u32> {
    return start + 4u * lane + vec4<u32>(0u, 1u, 2u, 3u);
}

// The place of its word number `i`.
fn nth_word(start: u32, i: u32, lane: u32) -> u32 {
    return start + i / 4u * (4u * LANES) + 4u * lane + i % 4u;
}

// A lane's four words, or others of the range where these lie outside; of a range without entries, the four before it. (What `clamp` makes of bounds that lie the wrong
// way round differs from language to language.)
fn words_of(start: u32, first: u32, end: u32, lane: u32) -> vec4<u32> {
    return weights[min(max(start / 4u + lane, first / (4u * PER_WORD)), (end - 1u) / (4u * PER_WORD))];
}

// The same where none lies before the range.
fn words_up_to(start: u32, end: u32, lane: u32) -> vec4<u32> {
    return weights[min(start / 4u + lane, (end - 1u) / (4u * PER_WORD))];
}

// Whether all entries of this lane's four words are ours.
fn all_ours(start: u32, first: u32, end: u32, lane: u32) -> bool {
    let at = start + 4u * lane;
    return (at * PER_WORD >= first) & (at * PER_WORD < end);
}

// The same of words that begin with the range's first one, or behind it.
fn are_ours(start: u32, first: u32, end: u32, lane: u32) -> bool {
    return (start + 4u * lane) * PER_WORD < end;
}
