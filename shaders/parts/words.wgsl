// A lane's next words of weights, four at a time: asked for together, so that memory has something to do while they are waited for. No compiler
// may do that for us where a shader also writes weights, and naga unrolls nothing.

const FOUR: vec4<u32> = vec4<u32>(0u, LANES, 2u * LANES, 3u * LANES);

fn four_words(at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(weights[at.x], weights[at.y], weights[at.z], weights[at.w]);
}

// A lane's next four words, of which those that lie outside the range are some of it.
fn words_of(start: u32, first: u32, end: u32, lane: u32) -> vec4<u32> {
    let at = start + lane + FOUR;
    if (all_ours(start, first, end)) {
        return four_words(at);
    }
    if (start * PER_WORD >= end) {
        return vec4<u32>(0u);
    }
    return four_words(clamp(at, vec4<u32>(first / PER_WORD), vec4<u32>((end - 1u) / PER_WORD)));
}

// The same where none lies before the range: of those behind it all are its last one, and no lane asks which these are.
fn words_up_to(start: u32, end: u32, lane: u32) -> vec4<u32> {
    return four_words(min(start + lane + FOUR, vec4<u32>((end - 1u) / PER_WORD)));
}

// Whether all entries of the workgroup's next four words a lane are ours. The same for all lanes.
fn all_ours(start: u32, first: u32, end: u32) -> bool {
    return (start * PER_WORD >= first) & ((start + 4u * LANES) * PER_WORD <= end);
}

// The same of words that begin with the range's first one, or behind it.
fn are_ours(start: u32, first: u32, end: u32) -> bool {
    return (PER_WORD == 1u || start * PER_WORD >= first) & ((start + 4u * LANES) * PER_WORD <= end);
}
