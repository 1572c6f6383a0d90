// What the sums of parts/sums.wgsl cost for every entry. The other choice, for measuring, is parts/sums_skip.wgsl.

// Whether the shift loses no bit, and nothing leaves the window at its top: exponents from top - REACH to top. Where that takes in the least
// exponent, it does subnormals and zero too. Nothing fits a window that has no top yet. Both bounds are the same for all entries.
fn window_fits(top: u32, key: u32) -> bool {
    let least = max(top, REACH + 1u) - REACH;
    let lowest = (least << 23u) * u32(least > 1u);
    let above = (top + u32(top != 0u)) << 23u;
    return key - lowest < above - lowest; // wraps when the score is too small: then it is large
}

// Add a score that fits, once or not at all: where lanes differ they need not part.
fn window_take(window: ptr<function, Window>, key: u32, times: u32, squares: bool) {
    let m = significand(key) * times;
    let up = (exponent(key) + REACH - (*window).top) & 31u;
    let shifted = m << up; // its lowest 32 bits
    let limbs = vec3<u32>(shifted & LIMB_MASK, (shifted >> LIMB) & LIMB_MASK, m >> ((2u * LIMB - up) & 31u));
    (*window).limbs += limbs;
    if (squares) {
        (*window).low += limbs.xxy * limbs.xyy;
        (*window).high += limbs.xyz * limbs.zzz;
    }
}

// The least key that fits a window with this top, where that is no subnormal; else one above all keys.
fn window_lowest(top: u32) -> u32 {
    if (top <= REACH + 1u) {
        return 0x80000000u;
    }
    return (top - REACH) << 23u;
}

// Add four scores, where all of them fit and are normal numbers; `lowest` is the window's. Less is to be done for each then: twice how far a key lies
// above `lowest` has in its highest byte how far the significand is to be moved. `lead` is the hidden bit.
fn window_took(window: ptr<function, Window>, keys: vec4<u32>, lowest: u32, lead: u32) -> bool {
    let above = keys - lowest;
    if (max(max(above.x, above.y), max(above.z, above.w)) >= ((REACH + 1u) << 23u)) {
        return false;
    }
    let twice = above << vec4<u32>(1u);
    take_normal(window, keys.x, twice.x, lead);
    take_normal(window, keys.y, twice.y, lead);
    take_normal(window, keys.z, twice.z, lead);
    take_normal(window, keys.w, twice.w, lead);
    return true;
}

// A score by twice how far its key lies above the window's lowest, and by a number that has its mantissa.
fn take_normal(window: ptr<function, Window>, mantissa: u32, twice: u32, lead: u32) {
    let m = (mantissa & 0x7fffffu) | lead;
    let up = twice >> 24u;
    let shifted = m << up; // its lowest 32 bits
    let limbs = vec3<u32>(shifted & LIMB_MASK, (shifted >> LIMB) & LIMB_MASK, m >> (2u * LIMB - up));
    (*window).limbs += limbs;
    (*window).low += limbs.xxy * limbs.xyy;
    (*window).high += limbs.xyz * limbs.zzz;
}

fn widen_products(window: ptr<function, Window>) {
    (*window).low_0 += (*window).low & vec3<u32>(0xffffu);
    (*window).low_16 += (*window).low >> vec3<u32>(16u);
    (*window).high_0 += (*window).high & vec3<u32>(0xffffu);
    (*window).high_16 += (*window).high >> vec3<u32>(16u);
    (*window).low = vec3<u32>(0u);
    (*window).high = vec3<u32>(0u);
}
