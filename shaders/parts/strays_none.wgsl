// Strays that are added to the digits as soon as they are met: a workgroup of a large contest meets more than a list would hold. The other choice is
// parts/strays.wgsl.

fn clear_strays(lane: u32) {
}

fn take_stray(key: u32) {
    deposit_score(key, true);
}

fn add_strays(first: u32, end: u32, lane: u32) {
}
