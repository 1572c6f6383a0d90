// What a lane has asked for before it is worked on: eight words. A first read waits for memory, not for arithmetic, when few workgroups are at work side by
// side; with fours it takes a tenth longer. The other choice is parts/ahead_four.wgsl.

const AHEAD_WORDS: u32 = 8u;
struct Ahead {
    a: vec4<u32>,
    b: vec4<u32>,
}

fn ask_ahead(start: u32, first: u32, end: u32, lane: u32) -> Ahead {
    return Ahead(words_of(start, first, end, lane), words_of(start + 4u * LANES, first, end, lane));
}

// Work on eight words a lane from `start` on, which have been asked for, and ask for those behind them. Returns a bit for each entry that is a stray. Both fours are
// asked for at once, and neither is moved while it is under way: that would be to wait for it.
fn read_ahead(window: ptr<function, Window>, next: ptr<function, Ahead>, start: u32, first: u32, end: u32, lane: u32) -> u32 {
    let words = *next;
    *next = ask_ahead(start + 8u * LANES, first, end, lane);
    let at = start + lane + FOUR;
    let are_ours = all_ours(start, first, end) & all_ours(start + 4u * LANES, first, end);
    var strays = 0u;
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let above = keys_of(words.a, half, at * PER_WORD + half) - my_focus;
        let above_b = keys_of(words.b, half, (at + 4u * LANES) * PER_WORD + half) - my_focus;
        let higher = max(above, above_b);
        let highest = max(max(higher.x, higher.y), max(higher.z, higher.w));
        // Nearly always.
        if (are_ours & (highest < my_span)) {
            take_four(window, above);
            take_four(window, above_b);
        } else {
            strays |= read_apart(window, above, above_b, start, half, first, end, lane) << half;
        }
    }
    return strays;
}

// One four after the other, in a loop that is not unrolled: its length is no constant.
fn read_apart(window: ptr<function, Window>, a: vec4<u32>, b: vec4<u32>, start: u32, half: u32, first: u32, end: u32, lane: u32) -> u32 {
    var strays = 0u;
    var above = a;
    for (var four = start; (four < start + 8u * LANES) & (four * PER_WORD < end); four += 4u * LANES) {
        let entries = (four + lane + FOUR) * PER_WORD + half;
        let highest = max(max(above.x, above.y), max(above.z, above.w));
        let are_ours = all_ours(four, first, end);
        let place = (four - start) / LANES * PER_WORD;
        if (are_ours & (highest < my_span)) {
            take_four(window, above);
        } else if (are_ours) {
            strays |= read_four(window, above) << place;
        } else {
            strays |= read_some(window, above, entries, first, end) << place;
        }
        above = b;
    }
    return strays;
}
