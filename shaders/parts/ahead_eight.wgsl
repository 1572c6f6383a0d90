// What a lane has asked for before it is worked on: eight words. A first read waits for memory, not for arithmetic, when few workgroups are at work side by
// side; with fours it takes a tenth longer. The other choice is parts/ahead_four.wgsl.

const AHEAD_WORDS: u32 = 8u;
struct Ahead {
    a: vec4<u32>,
    b: vec4<u32>,
}

fn ask_ahead(start: u32, end: u32, lane: u32) -> Ahead {
    return Ahead(words_up_to(start, end, lane), words_up_to(start + 4u * LANES, end, lane));
}

// Work on eight words a lane from `at` on, which have been asked for, and ask for those behind them. The first is number `j` of a lane's in its round. Both
// fours are asked for at once, and neither is moved while it is under way: that would be to wait for it.
fn read_ahead(
    window: ptr<function, Window>,
    next: ptr<function, Ahead>,
    at: u32,
    j: u32,
    first: u32,
    end: u32,
    lane: u32,
) {
    let words = *next;
    *next = ask_ahead(at + 8u * LANES, end, lane);
    let whole = are_ours(at, first, end, lane) & are_ours(at + 4u * LANES, first, end, lane);
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let entries = my_four(at, lane) * PER_WORD + half;
        let entries_b = entries + 4u * LANES * PER_WORD;
        let places = places_of(words.a, half, entries);
        let places_b = places_of(words.b, half, entries_b);
        // Nearly always.
        if (whole & (max(highest_of(places), highest_of(places_b)) < my_span)) {
            take_four(window, places);
            take_four(window, places_b);
        } else {
            read_apart(window, places, places_b, at, j, half, first, end, lane);
        }
    }
}

// One four after the other, in a loop that is not unrolled: its length is no constant.
fn read_apart(
    window: ptr<function, Window>,
    a: vec4<u32>,
    b: vec4<u32>,
    at: u32,
    j: u32,
    half: u32,
    first: u32,
    end: u32,
    lane: u32,
) {
    var places = a;
    for (var four = at; (four < at + 8u * LANES) & (four * PER_WORD < end); four += 4u * LANES) {
        let whole = are_ours(four, first, end, lane);
        var strays = 0u;
        if (whole & (highest_of(places) < my_span)) {
            take_four(window, places);
        } else if (whole) {
            strays = read_four(window, places);
        } else if (!IN_FOURS) {
            strays = read_some(window, places, my_four(four, lane) * PER_WORD + half, first, end);
        }
        my_strays |= strays << ((j + (four - at) / LANES) * PER_WORD + half);
        places = b;
    }
}
