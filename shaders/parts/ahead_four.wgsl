// What a lane has asked for before it is worked on: four words. The other choice is parts/ahead_eight.wgsl.

const AHEAD_WORDS: u32 = 4u;
alias Ahead = vec4<u32>;

fn ask_ahead(start: u32, end: u32, lane: u32) -> Ahead {
    return words_up_to(start, end, lane);
}

// Work on four words a lane from `at` on, which have been asked for, and ask for those behind them. The first is number `j` of a lane's in its round.
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
    *next = ask_ahead(at + 4u * LANES, end, lane);
    let whole = are_ours(at, first, end, lane);
    for (var half = 0u; half < PER_WORD; half += 1u) {
        let entries = my_four(at, lane) * PER_WORD + half;
        let places = places_of(words, half, entries);
        // Nearly always.
        if (whole & (highest_of(places) < my_span)) {
            take_four(window, places);
        } else if (!IN_FOURS || whole) {
            var strays = 0u;
            if (whole) {
                strays = read_four(window, places);
            } else {
                strays = read_some(window, places, entries, first, end);
            }
            my_strays |= strays << (j * PER_WORD + half);
        }
    }
}
