// Carrying out a final decision: there are no candidates.

fn collects() -> bool {
    return false;
}

fn collect(group: u32, tile: u32, flags: u32, lane: u32) {
}
