// The digits of a workgroup's sums: words of 16 bits worth of value. What an addition carries out of a word goes to the digit after the next one, and out
// of that to the next but one again, and so on; `spread_carries` keeps that rare.

var<workgroup> wg_digits: array<atomic<u32>, DIGITS>;
var<workgroup> wg_carries: array<u32, DIGITS>;

// Empty the windows of all lanes, without their squares, into the digits: joined lanes whose windows lie alike with one voice. Uniform flow. A lane has at
// most 2048 entries: its limbs are below 2^24 together, and those of 128 lanes below 2^31.
fn windows_flush(window: ptr<function, Window>) {
    let holds = any((*window).limbs != vec3<u32>(0u));
    let top = joined_max((*window).top * u32(holds));
    var all = Window();
    all.top = top;
    let alike = joined_all(!holds || (*window).top == top);
    let speaker = is_speaker();
    all.limbs = joined_3((*window).limbs);
    if (!alike) {
        window_flush(window, false);
        return;
    }
    *window = Window();
    (*window).top = top;
    if (speaker) {
        window_flush(&all, false);
    }
}

fn add_digit(at: u32, value: u32) {
    if (value != 0u) {
        let before = atomicAdd(&wg_digits[at], value);
        if (before + value < before) {
            // As far as digits are full: 65537 additions of 0xffff fill one to the last bit.
            for (var next = at + 2u; next < DIGITS; next += 2u) {
                if (atomicAdd(&wg_digits[next], 1u) != 0xffffffffu) {
                    break;
                }
            }
        }
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
