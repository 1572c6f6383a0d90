// Integers of 64 and 96 bits: lowest word first.

fn add_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + u32(low < b.x));
}

fn sub_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - u32(a.x < b.x));
}

fn add_96(a: vec3<u32>, b: vec3<u32>) -> vec3<u32> {
    let low = add_64(a.xy, b.xy);
    return vec3<u32>(low, a.z + b.z + u32(less_64(low, a.xy)));
}

fn sub_96(a: vec3<u32>, b: vec3<u32>) -> vec3<u32> {
    return vec3<u32>(sub_64(a.xy, b.xy), a.z - b.z - u32(less_64(a.xy, b.xy)));
}

fn less_64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn product_64(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a0 * b1 + (low >> 16u); // at most (2^16 - 1)^2 + 2^16 - 1
    let middle_2 = a1 * b0 + (middle & 0xffffu);
    return vec2<u32>((middle_2 << 16u) | (low & 0xffffu), a1 * b1 + (middle >> 16u) + (middle_2 >> 16u));
}
