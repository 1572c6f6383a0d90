// What the first digit of a row leaves open, at most ROOM entries: ranked among themselves, and then carried out one by one. They lie in `wg_bins`, their keys
// before their places (parts/collect_row.wgsl). Contests have settle.wgsl.
//
// Rust twin: src/cpu/rows.rs

// Of what was found, the entry before which there are rank - 1 others: the last one that is kept. Uniform flow; a barrier before and one inside.
fn row_rank(rank: u32, found: u32, lane: u32) {
    for (var i = lane; i < found; i += LANES) {
        atomicStore(&wg_bins[i], key_at(my_origin + atomicLoad(&wg_bins[ROOM + i])));
    }
    workgroupBarrier();
    for (var i = lane; i < found; i += LANES) {
        let key = atomicLoad(&wg_bins[i]);
        var above = 0u;
        var ties = 0u;
        // Four at a time: a lane would wait at each. What lies behind the last is not counted.
        for (var j = 0u; j < found; j += 4u) {
            let others = vec4<u32>(
                atomicLoad(&wg_bins[j]),
                atomicLoad(&wg_bins[j + 1u]),
                atomicLoad(&wg_bins[j + 2u]),
                atomicLoad(&wg_bins[j + 3u]),
            );
            let are_found = vec4<u32>(j + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(found));
            let are_above = vec4<u32>(others > vec4<u32>(key)) * are_found;
            let are_ties = vec4<u32>(others == vec4<u32>(key)) * are_found;
            above += are_above.x + are_above.y + are_above.z + are_above.w;
            ties += are_ties.x + are_ties.y + are_ties.z + are_ties.w;
        }
        if (above < rank && above + ties >= rank) {
            row_rank_tie(rank - above, ties, i, found);
        }
    }
}

// One of so many keys that equal the threshold: of their entries, is its the one to be the last that is kept?
fn row_rank_tie(rank: u32, ties: u32, i: u32, found: u32) {
    let key = atomicLoad(&wg_bins[i]);
    let at = atomicLoad(&wg_bins[ROOM + i]);
    var before = 0u;
    if (ties > 1u) {
        for (var j = 0u; j < found; j += 1u) {
            before += u32((atomicLoad(&wg_bins[j]) == key) & (atomicLoad(&wg_bins[ROOM + j]) < at));
        }
    }
    if (before + 1u == rank) {
        wg_record.threshold = key;
        wg_record.left = 0u;
        wg_record.digits = params.digits;
        wg_record.rank.x = rank;
        wg_record.cut_span = NO_CUT;
        wg_record.cut_rank = 0u;
        if (ties != rank) {
            wg_record.cut_span = 0u;
            wg_record.cut_rank = rank;
            wg_record.cut_index = at + 1u;
        }
    }
}

// What was found and loses leaves the mask and is zeroed; the rest joins the sum of what is kept. Uniform flow.
fn row_settle(range: Range, threshold: u32, limit: u32, found: u32, lane: u32) {
    var window = Window();
    for (var round = 0u; round < found; round += LANES) {
        if (round + lane < found) {
            let key = atomicLoad(&wg_bins[round + lane]);
            let at = my_origin + atomicLoad(&wg_bins[ROOM + round + lane]);
            if (key > threshold || (key == threshold && at < limit)) {
                if (HAS_MASS) {
                    window_add(&window, key, false);
                }
            } else {
                if (params.mask != 0u) {
                    atomicAnd(&mask[at / 32u], ~(1u << (at % 32u)));
                }
                carry_entry(at, threshold, limit, range.first, range.end);
            }
        }
    }
    if (HAS_MASS) {
        windows_flush(&window);
    }
}
