// What a lane has asked for before it is worked on: four words. The other choice is parts/ahead_eight.wgsl.

const AHEAD_WORDS: u32 = 4u;
alias Ahead = vec4<u32>;

fn ask_ahead(start: u32, first: u32, end: u32, lane: u32) -> Ahead {
    return words_of(start, first, end, lane);
}

// Work on four words a lane from `start` on, which have been asked for, and ask for those behind them. Returns a bit for each entry that is a
// stray.
fn read_ahead(window: ptr<function, Window>, next: ptr<function, Ahead>, start: u32, first: u32, end: u32, lane: u32) -> u32 {
    let words = *next;
    *next = ask_ahead(start + 4u * LANES, first, end, lane);
    let at = start + lane + FOUR;
    let are_ours = all_ours(start, first, end);
    var strays = 0u;
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let entries = at * PER_WORD + half;
        let above = keys_of(words, half, entries) - my_focus;
        let highest = max(max(above.x, above.y), max(above.z, above.w));
        // Nearly always.
        if (are_ours & (highest < my_span)) {
            take_four(window, above);
        } else if (are_ours) {
            strays |= read_four(window, above) << half;
        } else {
            strays |= read_some(window, above, entries, first, end) << half;
        }
    }
    return strays;
}
