// What every stage is told, and how a slice is divided among workgroups.
//
// A slice is a run of weights in one binding. It holds `groups` contests of `group_len` entries each (one, when a contest spans
// the whole slice, and perhaps other slices too). A contest is divided into `parts`, of which a workgroup takes one or `fold`. Parts begin at multiples
// of 32 entries of the slice, so that within a contest no two workgroups share a word of the mask or of the weights; only
// neighbouring contests do, at their common border.
//
// Rust twin: src/gpu/layout.rs (`Params`), src/plan.rs (the numbers in it).

struct Params {
    // beta = up / down, and the entries of one contest over all slices: 64 bits each, low word first.
    beta_up: vec2<u32>,
    beta_down: vec2<u32>,
    contest_len: vec2<u32>,
    // What is kept of a contest whose scores have no say in that, and the least that is kept of any.
    count: vec2<u32>,
    least: vec2<u32>,
    // Entries of this slice; below 2^30.
    len: u32,
    // Entries of one contest within this slice.
    group_len: u32,
    // Contests in this slice.
    groups: u32,
    // Parts of a contest in this slice, and the entries of one (a multiple of 32).
    parts: u32,
    part_len: u32,
    // Ties are counted by spans of so many parts; number of this slice's first span within its contests, and of all spans of one
    // contest over all slices.
    span: u32,
    first_span: u32,
    all_spans: u32,
    // Number of this slice, and of all slices.
    slice: u32,
    slices: u32,
    // Columns of the weight matrix, which the slice's first entry begins a row of.
    columns: u32,
    // Digits in which keys can differ: 2 or 3.
    digits: u32,
    // 1 when the mask is written.
    mask: u32,
    // Candidates of one contest that there is room for; 0 when none are to be collected.
    capacity: u32,
    // Workgroups that look at the candidates of one contest in this slice.
    refiners: u32,
    // 1 when `count` says how many are kept, 0 when beta does.
    counted: u32,
    // Roughly, for a sample: how many of 1024 entries are kept where that is counted, else beta in 256ths, at most 2^16.
    share: u32,
    // Rows and columns of a contest, where contests are the blocks of a matrix of `columns`; else 0.
    block_rows: u32,
    block_columns: u32,
    // Neighbouring parts that one workgroup takes, where it adds up something for all of them or might have nothing to do.
    fold: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

// How many a contest keeps that would keep `count` by beta.
fn asked_count(count: vec2<u32>) -> vec2<u32> {
    var kept = count;
    if (params.counted == 1u) {
        kept = params.count;
    }
    let least = params.least;
    if (kept.y < least.y || (kept.y == least.y && kept.x < least.x)) {
        kept = least;
    }
    return kept;
}

// The first entry (of the slice) and the entry after the last one that a workgroup owns.
struct Range {
    group: u32,
    // Where the contest begins.
    origin: u32,
    first: u32,
    end: u32,
}

// Workgroups are numbered row by row in a grid as wide as the device allows. Past the last one the range's group is `params.groups`.
fn my_range(id: vec3<u32>, grid: vec3<u32>) -> Range {
    let number = id.x + id.y * grid.x;
    return range_of(min(number / params.parts, params.groups), number % params.parts);
}

// The parts that are one workgroup's, from the first to the one after the last, where it takes `fold` of them; its number within the contest.
struct Fold {
    group: u32,
    number: u32,
    first: u32,
    end: u32,
}

fn my_fold(id: vec3<u32>, grid: vec3<u32>) -> Fold {
    let number = id.x + id.y * grid.x;
    let of_contest = (params.parts + params.fold - 1u) / params.fold;
    let mine = number % of_contest;
    let first = mine * params.fold;
    return Fold(min(number / of_contest, params.groups), mine, first, min(first + params.fold, params.parts));
}

fn range_of(group: u32, part: u32) -> Range {
    var range: Range;
    range.group = group;
    range.origin = group * params.group_len;
    let aligned = range.origin & ~31u;
    range.first = max(range.origin, aligned + part * params.part_len);
    range.end = min(range.origin + params.group_len, aligned + (part + 1u) * params.part_len);
    return range;
}
