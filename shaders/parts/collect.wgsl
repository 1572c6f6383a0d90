// Carrying out all that the first digit decides, and collecting what it does not: the keys in its bin.

var<workgroup> wg_found: atomic<u32>;
var<workgroup> wg_place: u32;

fn collects() -> bool {
    return true;
}

// Where the slice's candidates begin, once it is known: there may be thousands of slices before it, and of tiles in it.
var<private> my_first_is_known: bool;
var<private> my_first: u32;

fn slice_candidates(group: u32) -> u32 {
    if (!my_first_is_known) {
        my_first_is_known = true;
        my_first = first_candidate(group);
    }
    return my_first;
}

// Append the tile's candidates, marked in each lane's `flags`: one addition to the slice's count per tile. Uniform flow; four barriers.
fn collect(group: u32, tile: u32, flags: u32, lane: u32) {
    if (lane == 0u) {
        atomicStore(&wg_found, 0u);
    }
    workgroupBarrier();
    let mine = countOneBits(flags);
    let ours = joined(mine);
    var place = 0u;
    if (is_speaker() && ours != 0u) {
        place = atomicAdd(&wg_found, ours);
    }
    place = from_speaker(place) + before_me(mine);
    workgroupBarrier();
    if (lane == 0u) {
        wg_place = 0u;
        let found = atomicLoad(&wg_found);
        if (found != 0u) {
            wg_place = slice_candidates(group) + atomicAdd(&candidates[count_at(group, params.slice)], found);
        }
    }
    place += workgroupUniformLoad(&wg_place);
    var left = flags;
    while (left != 0u) {
        let bit = firstTrailingBit(left);
        left &= left - 1u;
        let word_at = tile / PER_WORD + (bit / PER_WORD) * LANES + lane;
        let at = word_at * PER_WORD + bit % PER_WORD;
        let slot = candidate_at(group, place);
        atomicStore(&candidates[slot], key_of(widen(weights[word_at], bit % PER_WORD), at));
        atomicStore(&candidates[slot + params.capacity], at);
        place += 1u;
    }
}
