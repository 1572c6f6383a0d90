// What a row asks of its windows and bins after the first read. The other choice is parts/levels_paired.wgsl.

// S and Q of what has been shared, in some unit and its square: for who needs no digits.
fn shared_sum() -> vec4<u32> {
    var window = Window();
    window.limbs = three_of(0u);
    return window_sum(&window);
}

fn shared_square() -> vec4<u32> {
    var window = Window();
    window.low_0 = three_of(3u);
    window.low_16 = three_of(6u);
    window.high_0 = three_of(9u);
    window.high_16 = three_of(12u);
    return window_square(&window);
}

fn three_of(at: u32) -> vec3<u32> {
    return vec3<u32>(atomicLoad(&wg_window[at]), atomicLoad(&wg_window[at + 1u]), atomicLoad(&wg_window[at + 2u]));
}

// A stray hardly below the window, in units of 2^-NEAR of its lowest bit; zero for another one.
fn near_stray(key: u32) -> u32 {
    let up = exponent(key) + REACH + NEAR - my_top; // wraps where it lies lower
    if (up >= NEAR) {
        return 0u;
    }
    return significand(key) << up;
}

fn is_stray(key: u32) -> bool {
    return !window_fits(my_top, key) && key != 0u && key < KEY_END;
}

// It has been counted.
fn add_stray(key: u32) {
    deposit_score(key, true);
}

// Keys in a bin, by its word.
fn keys_in(word: u32) -> u32 {
    return word;
}

// What is known of the threshold when its bin is.
fn found_in(bin: u32, rank: u32) -> Found {
    return Found(bin << FINE_BITS, FINE_BITS, atomicLoad(&wg_bins[bin]), rank);
}

const FIRST_IS_LAST: bool = false;
