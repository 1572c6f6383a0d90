// Focus: which powers of two the first digit is fine in: those around the threshold that a sample would have. Nothing depends on it but how many entries
// share the threshold's bin.
//
// Grid       one workgroup per contest, for one of its slices
// Reads      a thousand entries of the slice, evenly spread, or all where there are fewer
// Writes     a counter of the contest's tally: the first key in focus
// Barriers   between its steps
// Rust twin  none: the CPU's first digit is as fine everywhere

const SAMPLE: u32 = 1024u;
// Powers of two in focus that lie below the sample's threshold; four lie above it.
const BELOW: u32 = 11u;

// Of the sample, how many have each exponent; and the largest one.
var<workgroup> wg_exponents: array<atomic<u32>, 256>;
var<workgroup> wg_top: atomic<u32>;

@compute @workgroup_size(LANES)
fn focus(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = id.x + id.y * grid.x;
    if (group >= params.groups) {
        return;
    }
    for (var e = lane; e < 256u; e += LANES) {
        atomicStore(&wg_exponents[e], 0u);
    }
    if (lane == 0u) {
        atomicStore(&wg_top, 0u);
    }
    workgroupBarrier();
    let count = min(params.group_len, SAMPLE);
    for (var i = lane; i < count; i += LANES) {
        // Not every step'th: that may be a column of a matrix.
        let step = params.group_len / count;
        let at = group * params.group_len + i * step + (i * 0x9e3779b1u) % step;
        let key = key_of(widen(load_word(at / PER_WORD), at % PER_WORD), at);
        if (key != 0u && key < KEY_END) {
            atomicAdd(&wg_exponents[exponent(key)], 1u);
        }
    }
    workgroupBarrier();
    for (var e = lane; e < 256u; e += LANES) {
        if (atomicLoad(&wg_exponents[e]) != 0u) {
            atomicMax(&wg_top, e);
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        let focus = focus_below(sampled_threshold(count, atomicLoad(&wg_top)), BELOW);
        atomicStore(&tally[(group * TALLY + TALLY_FOCUS) * 2u], focus);
    }
}

// The exponent of the threshold, as the rule would find it in the sample if each score were its power of two.
fn sampled_threshold(sampled: u32, top: u32) -> u32 {
    // Sums of scores and of squares, in units of 2^-5 and 2^-10 of the largest; what is smaller does not matter.
    var sum = 0u;
    var square = 0u;
    for (var below = 0u; below < min(top, 16u); below += 1u) {
        let count = atomicLoad(&wg_exponents[top - below]);
        sum += (count << 5u) >> below;
        square += (count << 10u) >> (2u * below);
    }
    var kept = (params.share * sampled) >> 10u;
    if (params.counted == 0u) {
        kept = (sum * sum / max(square, 1u) * params.share) >> 8u;
    }
    var at = top;
    var found = atomicLoad(&wg_exponents[at]);
    while (at > 0u && found < kept) {
        at -= 1u;
        found += atomicLoad(&wg_exponents[at]);
    }
    return at;
}
