// Carrying out a final decision: there are no candidates.

fn is_candidate(key: u32, threshold: u32) -> bool {
    return false;
}

fn collect(group: u32, tile: u32, flags: u32, lane: u32) {
}
