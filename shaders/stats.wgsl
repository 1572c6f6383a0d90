// Stats: the exact sums of scores and of their squares, and the histogram of the first digit of their keys.
//
// Grid       one workgroup per part of each contest; a lane takes every 256th word of the part
// Reads      every weight once (4 bytes an entry of f32, 2 of f16 and bf16)
// Writes     nothing per entry; at its end a workgroup adds its non-zero bins and digits to the contest's tally
// Barriers   six per 192 entries a lane, two around
// Leaves     tally: histogram of the first digit, digits of both sums; first_bad: the first score that is no number
// Rust twin  src/cpu/stats.rs

var<workgroup> wg_bins: array<atomic<u32>, BINS>;

// Words that a lane takes before the products are widened, and before carries are spread.
const WIDEN_WORDS: u32 = 16u / PER_WORD;
const SPREAD_WORDS: u32 = 192u / PER_WORD;

@compute @workgroup_size(LANES)
fn stats(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let range = my_range(id, grid);
    if (range.group >= params.groups) {
        return;
    }
    clear_digits(lane);
    for (var bin = lane; bin < BINS; bin += LANES) {
        atomicStore(&wg_bins[bin], 0u);
    }
    workgroupBarrier();

    var window = Window();
    window.top = first_top(range.first, range.end, lane);
    // Zeros are common and would all meet in one bin: they are counted here.
    var zeros = 0u;
    let end_word = (range.end + PER_WORD - 1u) / PER_WORD;
    for (var spread = range.first / PER_WORD; spread < end_word; spread += LANES * SPREAD_WORDS) {
        for (var i = 0u; i < SPREAD_WORDS; i += WIDEN_WORDS) {
            for (var j = 0u; j < WIDEN_WORDS; j += 1u) {
                let word_at = spread + (i + j) * LANES + lane;
                if (word_at < end_word) {
                    let word = weights[word_at];
                    for (var half = 0u; half < PER_WORD; half += 1u) {
                        let at = word_at * PER_WORD + half;
                        if (at >= range.first && at < range.end) {
                            let weight = widen(word, half);
                            let key = key_of(weight, at);
                            if (key >= KEY_END) {
                                atomicMax(&first_bad[range.group * params.slices + params.slice], bad_word(weight, at));
                            } else if (key == 0u) {
                                zeros += 1u;
                            } else {
                                atomicAdd(&wg_bins[key >> 20u], 1u);
                                window_add(&window, key, true);
                            }
                        }
                    }
                }
            }
            widen_products(&window);
        }
        windows_flush(&window, true);
        spread_carries(lane);
    }
    let all_zeros = joined(zeros);
    if (is_speaker() && all_zeros != 0u) {
        atomicAdd(&wg_bins[0], all_zeros);
    }
    workgroupBarrier();

    for (var bin = lane; bin < BINS; bin += LANES) {
        tally_add(range.group, bin, atomicLoad(&wg_bins[bin]));
    }
    if (lane < DIGITS) {
        tally_add(range.group, TALLY_SUM + lane, atomicLoad(&wg_digits[lane]));
    }
}
