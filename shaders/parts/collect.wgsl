// Carrying out all that the first digit decides, and collecting what it does not: the keys in its bin.

// Candidates that were found and not yet handed over, how many have been found, and where those here go.
const LIST: u32 = 256u;
var<workgroup> wg_list: array<vec2<u32>, LIST>;
var<workgroup> wg_found: atomic<u32>;
var<workgroup> wg_listed: u32;
var<workgroup> wg_place: u32;

// Where the slice's candidates begin.
var<private> my_first: u32;

// Note the tile's candidates, marked in each lane's `flags`. Those that the list has no room for go where they belong one lane after the other.
fn collect(group: u32, tile: u32, flags: u32, lane: u32) {
    if (flags == 0u) {
        return;
    }
    let mine = countOneBits(flags);
    var place = atomicAdd(&wg_found, mine);
    var direct = 0u;
    if (place + mine > LIST) {
        let over = place + mine - max(place, LIST);
        direct = my_first + atomicAdd(&candidates[count_at(group, params.slice)], over);
    }
    var left = flags;
    while (left != 0u) {
        let bit = firstTrailingBit(left);
        left &= left - 1u;
        let word_at = nth_word(tile / PER_WORD, bit / PER_WORD, lane);
        let at = word_at * PER_WORD + bit % PER_WORD;
        let candidate = vec2<u32>(key_of(widen(load_word(word_at), bit % PER_WORD), at), at);
        if (place < LIST) {
            wg_list[place] = candidate;
        } else {
            put_candidate(group, direct, candidate);
            direct += 1u;
        }
        place += 1u;
    }
}

fn put_candidate(group: u32, number: u32, candidate: vec2<u32>) {
    let slot = candidate_at(group, number);
    atomicStore(&candidates[slot], candidate.x);
    atomicStore(&candidates[slot + params.capacity], candidate.y);
}

// Hand over what was noted, when it is more than `most`: one addition to the slice's count. Uniform flow; barriers inside.
fn hand_over(group: u32, most: u32, lane: u32) {
    workgroupBarrier();
    if (lane == 0u) {
        wg_listed = min(atomicLoad(&wg_found), LIST);
    }
    let listed = workgroupUniformLoad(&wg_listed);
    if (listed <= most) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&wg_found, 0u);
        wg_place = my_first + atomicAdd(&candidates[count_at(group, params.slice)], listed);
    }
    let first = workgroupUniformLoad(&wg_place);
    for (var i = lane; i < listed; i += LANES) {
        put_candidate(group, first + i, wg_list[i]);
    }
    workgroupBarrier();
}
