// The digits of a workgroup's sums: words of 16 bits worth of value, so that 65536 additions fit before carries must be spread: call
// `spread_carries` after at most 192 entries a lane.

var<workgroup> wg_digits: array<atomic<u32>, DIGITS>;
var<workgroup> wg_carries: array<u32, DIGITS>;

fn add_digit(at: u32, value: u32) {
    if (value != 0u) {
        atomicAdd(&wg_digits[at], value);
    }
}

fn clear_digits(lane: u32) {
    for (var i = lane; i < DIGITS; i += LANES) {
        atomicStore(&wg_digits[i], 0u);
    }
}

// Hand each digit's excess to the next one. Uniform flow; a barrier before (so that all have added) and two inside. Afterwards a digit
// is below 2^17. The last digit of a sum is never large enough to have an excess.
fn spread_carries(lane: u32) {
    workgroupBarrier();
    for (var i = lane; i < DIGITS; i += LANES) {
        wg_carries[i] = atomicLoad(&wg_digits[i]) >> 16u;
    }
    workgroupBarrier();
    for (var i = lane; i < DIGITS; i += LANES) {
        var digit = atomicLoad(&wg_digits[i]) & 0xffffu;
        if (i != SUM && i != SQUARE) {
            digit += wg_carries[i - 1u];
        }
        atomicStore(&wg_digits[i], digit);
    }
    workgroupBarrier();
}
