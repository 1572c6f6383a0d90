// Candidates: the entries in the threshold's bin of the first digit, kept by `sift` with their keys, so that the other digits are found
// among them and not in another read of everything. For each contest a run of `params.capacity` of them, in any order within a slice,
// slice after slice; before the runs, how many each slice has.
//
// Rust twin: src/gpu/layout.rs (`candidate_bytes`).

@group(0) @binding(8) var<storage, read_write> candidates: array<atomic<u32>>;

// How many candidates slice `slice` has in a contest.
fn count_at(group: u32, slice: u32) -> u32 {
    return group * params.slices + slice;
}

// Key of a candidate; its entry in the slice lies `params.capacity` further on.
fn candidate_at(group: u32, number: u32) -> u32 {
    return params.groups * params.slices + group * 2u * params.capacity + number;
}

var<workgroup> wg_earlier: atomic<u32>;
var<workgroup> wg_first: u32;

// The first candidate of this slice: those of the slices before it are all there by now. By all lanes at once: there may be thousands, and one lane would wait
// for memory at each. Uniform flow; barriers inside, unless it is the first slice.
fn first_candidate(group: u32, lane: u32) -> u32 {
    var first = 0u;
    if (params.slice != 0u) {
        if (lane == 0u) {
            atomicStore(&wg_earlier, 0u);
        }
        workgroupBarrier();
        var earlier = 0u;
        for (var slice = lane; slice < params.slice; slice += LANES) {
            earlier += atomicLoad(&candidates[count_at(group, slice)]);
        }
        if (earlier != 0u) {
            atomicAdd(&wg_earlier, earlier);
        }
        workgroupBarrier();
        if (lane == 0u) {
            wg_first = atomicLoad(&wg_earlier);
        }
        first = workgroupUniformLoad(&wg_first);
    }
    return first;
}

// The span that entry `at` of the slice belongs to.
fn span_of(group: u32, at: u32) -> u32 {
    let aligned = (group * params.group_len) & ~31u;
    return params.first_span + ((at - aligned) / params.part_len) / params.span;
}
