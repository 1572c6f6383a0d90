// Measure: the effective number and the preserved mass of each contest, as the bits of floats that a caller's shader can read. The host works
// them out from all bits of the sums; here the leading 32 will do. Nothing is decided by them.
//
// Grid       one lane per contest
// Reads      the contest's three sums and its record
// Writes     the record's n_eff and mass: within 0.55 units in the last place of the exact values
// Rust twin  src/decision.rs (`Quota::settle`)

@compute @workgroup_size(LANES)
fn measure(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let group = id.x + id.y * grid.x * LANES;
    if (group >= params.groups || records[group].status != 0u) {
        return;
    }
    let sum = total(group, 0u, 12u);
    let square = total(group, 12u, 22u);
    let kept_sum = total(group, 34u, 12u);
    if (records[group].degenerate == 1u) {
        // Every entry weighs the same.
        let len = scaled_64(params.contest_len);
        records[group].n_eff = ratio(len, scaled_64(vec2<u32>(1u, 0u)));
        records[group].mass = ratio(scaled_64(records[group].kept), len);
    } else {
        records[group].n_eff = ratio(scaled_product(sum, sum), square);
        records[group].mass = ratio(kept_sum, sum);
    }
}

// The leading bits of the sum in `words` words from word `first` of the contest's.
fn total(group: u32, first: u32, words: u32) -> Scaled {
    var carry = vec2<u32>(0u);
    var before = 0u;
    // The highest word that is not zero, the one below it, and where they are.
    var two = vec2<u32>(0u);
    var at = 0u;
    for (var i = 0u; i < words; i += 1u) {
        let word = total_word(group, first + i, &carry);
        if (word != 0u) {
            two = vec2<u32>(before, word);
            at = 32u * (i - 1u); // wraps below zero
        }
        before = word;
    }
    let leading = scaled_64(two);
    return Scaled(leading.x, leading.y + at);
}

// up / down, to the nearest f32, ties to even. Errors of the two are all there are: 26 bits of the quotient, and whether something is left.
fn ratio(up: Scaled, down: Scaled) -> u32 {
    if (up.x == 0u) {
        return 0u;
    }
    var rest = up.x;
    var bits = 0u;
    for (var i = 0u; i < 27u; i += 1u) {
        // 2^26 * up / down, digit by digit. The rest has 33 bits before a subtraction.
        var high = 0u;
        if (i != 0u) {
            high = rest >> 31u;
            rest <<= 1u;
        }
        bits <<= 1u;
        if (high == 1u || rest >= down.x) {
            rest -= down.x;
            bits |= 1u;
        }
    }
    // Its highest bit is number 26 or 25, and stands for 2^0 or 2^-1 times the rest of both exponents.
    let shift = countLeadingZeros(bits);
    let mantissa = (bits << shift) >> 8u;
    let lost = ((bits << shift) & 0xffu) | u32(rest != 0u);
    let rounded = mantissa + u32(lost > 0x80u || (lost == 0x80u && (mantissa & 1u) == 1u));
    // The hidden bit adds one to the exponent field; so does a carry out of the rounding.
    return ((up.y - down.y + 131u - shift) << 23u) + rounded;
}
