// A lane's next words of weights, four at a time: asked for together, so that memory has something to do while they are waited for. No compiler
// may do that for us where a shader also writes weights, and naga unrolls nothing.

const FOUR: vec4<u32> = vec4<u32>(0u, LANES, 2u * LANES, 3u * LANES);

fn four_words(at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(weights[at.x], weights[at.y], weights[at.z], weights[at.w]);
}

// Whether all entries of the workgroup's next four words a lane are ours. The same for all lanes.
fn all_ours(start: u32, first: u32, end: u32) -> bool {
    return (start * PER_WORD >= first) & ((start + 4u * LANES) * PER_WORD <= end);
}
