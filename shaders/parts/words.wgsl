// Words of weights, four at a time: asked for together, so that memory has something to do while they are waited for. No compiler may do that for us where a
// shader also writes weights, and naga unrolls nothing. Which four of a workgroup's are a lane's is another part's choice: parts/words_strided.wgsl or
// parts/words_fours.wgsl.

const FOUR: vec4<u32> = vec4<u32>(0u, LANES, 2u * LANES, 3u * LANES);

fn words_at(at: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(load_word(at.x), load_word(at.y), load_word(at.z), load_word(at.w));
}
