// Sums that are left out, to measure what the rest of a stage costs: windows stay empty, and a compiler drops what would be done with them. What
// is no number is still found.

fn window_fits(top: u32, key: u32) -> bool {
    return key < KEY_END;
}

fn window_take(window: ptr<function, Window>, key: u32, times: u32, squares: bool) {
}

fn widen_products(window: ptr<function, Window>) {
}

fn window_lowest(top: u32) -> u32 {
    return 0u;
}

fn window_took(window: ptr<function, Window>, keys: vec4<u32>, lowest: u32, lead: u32) -> bool {
    return max(max(keys.x, keys.y), max(keys.z, keys.w)) < KEY_END;
}

fn take_normal(window: ptr<function, Window>, key: u32, twice: u32, lead: u32) {
}
