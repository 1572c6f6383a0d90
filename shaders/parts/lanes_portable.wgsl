// Lanes that speak for themselves: what WebGPU guarantees everywhere. The other choice is parts/lanes_subgroup.wgsl.

// The sum of `value` over the lanes that are joined with this one. Uniform flow, as for all functions of this part.
fn joined(value: u32) -> u32 {
    return value;
}

fn joined_3(value: vec3<u32>) -> vec3<u32> {
    return value;
}

fn joined_max(value: u32) -> u32 {
    return value;
}

// Whether it holds for all of them.
fn joined_all(value: bool) -> bool {
    return value;
}

// Whether this lane is the one that says what they have in common.
fn is_speaker() -> bool {
    return true;
}

// What the speaker says.
fn from_speaker(value: u32) -> u32 {
    return value;
}

// How often products are widened before lanes share them: each lane has to speak for itself.
const SHARE: u32 = 8u;
