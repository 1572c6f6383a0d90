// Teams: contests short enough that a team of lanes keeps one's keys in workgroup memory, several contests to a workgroup. All stages
// in one dispatch, the same ones for every contest, so that they wait for each other only a few times.
//
// Grid       one workgroup per LANES / TEAM neighbouring rows of at most 16 * TEAM entries
// Reads      every weight once; and again, from a cache, the words of weights that are written
// Writes     every word of weights that is the workgroup's alone, changed or not; a bit of the mask per entry; the record and, when the mass is wanted, the sums of each row
// Barriers   one for each digit, some between its steps, and in each tile
// Leaves     records; sums, when the mass is wanted: three sums of each row in words of 32 bits. A row with a score that is no number stays as it is.
// Rust twin  src/cpu/rows.rs

// Keys of a lane: no more than products fit a word of a window, which are 64.
const LANE_KEYS: u32 = 16u;
// An odd distance between rows, so that lanes with a row each read different banks.
var<workgroup> wg_keys: array<u32, LANES * LANE_KEYS + TEAMS>;
var<workgroup> wg_bad: array<atomic<u32>, TEAMS>;
var<workgroup> wg_first_bad: atomic<u32>;
var<workgroup> wg_spoiled: u32;
var<workgroup> wg_kept: array<u32, TEAMS>;
var<workgroup> wg_threshold: array<u32, TEAMS>;
// Entries of the row from which on ties lose.
var<workgroup> wg_limit: array<u32, TEAMS>;

// Words of a team before there are digits in them: a window's, how many scores it does not hold, the largest key.
const STRAYS: u32 = 15u;
const MOST: u32 = 16u;

// A digit of 4 bits has 16 counters, two in a word: a row has at most 2048 entries. Three sets of them take turns, so that one barrier is
// enough for a digit.
const NIBBLES: u32 = 16u;
const SET_WORDS: u32 = 8u;
const SETS: u32 = 3u;
// Digits of a key, and of an entry's place in its row.
const KEY_ROUNDS: u32 = 8u;
const PLACE_ROUNDS: u32 = 1u + u32(TEAM > 1u) + u32(TEAM > 16u);

@compute @workgroup_size(LANES)
fn teams(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (id.x + id.y * grid.x) * TEAMS;
    if (first_row >= params.groups) {
        return;
    }
    let rows = min(TEAMS, params.groups - first_row);
    let len = params.group_len;
    let first = first_row * len;
    let end = first + rows * len;
    let team = lane / TEAM;
    let me = lane % TEAM;
    let row = first_row + team;
    let base = team * (len | 1u);

    // keys
    if (lane < TEAMS) {
        atomicStore(&wg_bad[lane], 0u);
    }
    if (lane == 0u) {
        atomicStore(&wg_first_bad, 0u);
    }
    team_begin(lane);
    team_clear(lane);
    workgroupBarrier();
    load_keys(first, end, lane);
    workgroupBarrier();
    if (lane == 0u) {
        wg_spoiled = atomicLoad(&wg_first_bad);
        if (wg_spoiled != 0u) {
            atomicMax(&first_bad[params.slice], wg_spoiled);
        }
    }
    let bad = atomicLoad(&wg_bad[team]);
    var n = 0u; // of this team's entries: none where there is nothing to decide
    if (team < rows && bad == 0u) {
        n = len;
    }

    // stats, budget
    var most = 0u;
    for (var j = me; j < n; j += TEAM) {
        most = max(most, wg_keys[base + j]);
    }
    team_max(MOST, most);
    team_barrier();
    team_stats(base, n, me);
    team_barrier();
    let strays = team_word(STRAYS);
    let top = exponent(team_word(MOST));
    var total = team_window(top);
    team_barrier();
    if (strays != 0u || HAS_MASS) {
        team_clear(lane);
    }
    team_barrier();
    if (strays != 0u) {
        var window = Window();
        window.top = top;
        for (var j = me; j < n; j += TEAM) {
            window_add(&window, wg_keys[base + j], true);
        }
        window_flush(&window, true);
    } else if (HAS_MASS && me == 0u) {
        let at = top + SCORE_AT - REACH;
        deposit(SUM, at, window_sum(&total), 4u);
        deposit(SQUARE, 2u * at, window_square(&total), 4u);
    }
    team_barrier();
    if (me == 0u) {
        var kept = n;
        if (strays != 0u) {
            spread_digits(SUM, 24u);
            spread_digits(SQUARE, 44u);
            kept = count_in_digits(n);
        } else if (any(total.limbs != vec3<u32>(0u))) {
            // Of at most 2048 entries in one window, S is below 2^53 and Q below 2^95.
            kept = count_in_window(window_sum(&total), window_square(&total), n);
        }
        if (n != 0u) {
            kept = asked_count(vec2<u32>(kept, 0u)).x;
        }
        wg_kept[team] = kept;
        if (HAS_MASS) {
            if (strays == 0u) {
                spread_digits(SUM, 24u);
                spread_digits(SQUARE, 44u);
            }
            if (team < rows) {
                write_sums(row * ROW_SUMS, 34u);
            }
        }
    }
    team_barrier();

    // narrow, histogram, ties
    team_clear(lane);
    team_barrier();
    let kept = wg_kept[team];
    var rank = kept;
    var threshold = 0u;
    var ties = 0u;
    for (var round = 0u; round < KEY_ROUNDS; round += 1u) {
        let counters = (round % SETS) * SET_WORDS;
        count_keys(base, n, me, threshold, 28u - 4u * round, counters);
        team_barrier();
        var digit = NIBBLES - 1u;
        ties = counted(counters, digit);
        while (digit > 0u && ties < rank) {
            rank -= ties;
            digit -= 1u;
            ties = counted(counters, digit);
        }
        threshold = (threshold << 4u) | digit;
        clear_set(round + 2u, me);
    }
    var place = 0u;
    var left = rank;
    for (var round = KEY_ROUNDS; round < KEY_ROUNDS + PLACE_ROUNDS; round += 1u) {
        let counters = (round % SETS) * SET_WORDS;
        let shift = 4u * (KEY_ROUNDS + PLACE_ROUNDS - 1u - round);
        count_places(base, n, me, threshold, place, shift, counters);
        team_barrier();
        var digit = 0u;
        var count = counted(counters, digit);
        while (digit < NIBBLES - 1u && count < left) {
            left -= count;
            digit += 1u;
            count = counted(counters, digit);
        }
        place = (place << 4u) | digit;
        clear_set(round + 2u, me);
    }
    let limit = place + 1u; // the entry after the last tie that is kept
    if (me == 0u) {
        wg_threshold[team] = threshold;
        wg_limit[team] = limit;
    }

    // apply
    if (HAS_MASS) {
        team_barrier();
        team_clear(lane);
        team_barrier();
        var window = Window();
        for (var j = me; j < n; j += TEAM) {
            let key = wg_keys[base + j];
            if (key > threshold || (key == threshold && j < limit)) {
                window_add(&window, key, false);
            }
        }
        window_flush(&window, false);
        team_barrier();
        if (me == 0u && team < rows) {
            spread_digits(SUM, 24u);
            write_sums(row * ROW_SUMS + 34u, 12u);
        }
    }
    if (me == 0u && team < rows) {
        var record = Record();
        record.cut_span = NO_CUT;
        record.digits = params.digits;
        record.kept = vec2<u32>(kept, 0u);
        if (bad != 0u) {
            record.status = 1u + (~bad & 3u);
            record.bad_slice = params.slice;
            record.bad_index = ~bad >> 2u;
        } else {
            record.threshold = min(threshold, KEY_END); // where nothing is kept all digits are ones
            record.rank = vec2<u32>(rank, 0u);
            if (ties != rank) {
                record.cut_span = 0u; // the row is the span
                record.cut_rank = rank;
                record.cut_index = limit;
            }
            record.degenerate = u32(most_of_all(strays, &total) == 0u);
        }
        records[row] = record;
    }
    let spoiled = workgroupUniformLoad(&wg_spoiled);
    carry_out_all(first, end, spoiled != 0u, lane);
}

// Zero when all scores are.
fn most_of_all(strays: u32, total: ptr<function, Window>) -> u32 {
    return strays | (*total).limbs.x | (*total).limbs.y | (*total).limbs.z;
}

// The row, within the workgroup, of its entry number `local`: local / group_len. The factor is above 2^20 / group_len by at most 1, so the
// quotient is above by at most local / 2^20: less than 1 / group_len, since where there are several rows they have 1024 entries together.
fn row_of(local: u32) -> u32 {
    if (TEAMS == 1u) {
        return 0u;
    }
    return (local * ((1u << 20u) / params.group_len + 1u)) >> 20u;
}

fn load_keys(first: u32, end: u32, lane: u32) {
    let len = params.group_len;
    let end_word = (end + PER_WORD - 1u) / PER_WORD;
    for (var word_at = first / PER_WORD + lane; word_at < end_word; word_at += LANES) {
        let word = load_word(word_at);
        for (var half = 0u; half < PER_WORD; half += 1u) {
            let at = word_at * PER_WORD + half;
            if (at >= first && at < end) {
                let weight = widen(word, half);
                let key = key_of(weight, at);
                let local = at - first;
                let row = row_of(local);
                wg_keys[row * (len | 1u) + local - row * len] = key;
                if (key >= KEY_END) {
                    atomicMax(&wg_bad[row], bad_word(weight, at));
                    atomicMax(&wg_first_bad, bad_word(weight, at));
                }
            }
        }
    }
}

// The sums of a team's scores in one window below its largest; those that do not fit are counted.
fn team_stats(base: u32, n: u32, me: u32) {
    var window = Window();
    window.top = exponent(team_word(MOST));
    var strays = 0u;
    for (var j = me; j < n; j += TEAM) {
        let key = wg_keys[base + j];
        if (key != 0u) {
            if (window_fits(window.top, key)) {
                window_take(&window, key, 1u, true);
            } else {
                strays += 1u;
            }
        }
    }
    widen_products(&window);
    team_add_3(0u, window.limbs);
    team_add_3(3u, window.low_0);
    team_add_3(6u, window.low_16);
    team_add_3(9u, window.high_0);
    team_add_3(12u, window.high_16);
    team_add(STRAYS, strays);
}

fn team_add_3(at: u32, values: vec3<u32>) {
    team_add(at, values.x);
    team_add(at + 1u, values.y);
    team_add(at + 2u, values.z);
}

// What they come to. At most 2048 entries: halves of products below 2^27 together.
fn team_window(top: u32) -> Window {
    var window = Window();
    window.top = top;
    window.limbs = team_words_3(0u);
    window.low_0 = team_words_3(3u);
    window.low_16 = team_words_3(6u);
    window.high_0 = team_words_3(9u);
    window.high_16 = team_words_3(12u);
    return window;
}

fn team_words_3(at: u32) -> vec3<u32> {
    return vec3<u32>(team_word(at), team_word(at + 1u), team_word(at + 2u));
}

// Counts of one digit among keys that agree so far, four counters of 8 bits in a word: a lane has 16 keys.
fn count_keys(base: u32, n: u32, me: u32, prefix: u32, shift: u32, counters: u32) {
    var counts = vec4<u32>(0u);
    for (var j = me; j < n; j += TEAM) {
        let digits = wg_keys[base + j] >> shift;
        if ((digits >> 4u) == prefix) {
            counts += one_counted(digits);
        }
    }
    add_counts(counts, counters);
}

// The same for the places of ties.
fn count_places(base: u32, n: u32, me: u32, threshold: u32, prefix: u32, shift: u32, counters: u32) {
    var counts = vec4<u32>(0u);
    for (var j = me; j < n; j += TEAM) {
        let digits = j >> shift;
        if (wg_keys[base + j] == threshold && (digits >> 4u) == prefix) {
            counts += one_counted(digits);
        }
    }
    add_counts(counts, counters);
}

// Of four words the one that counts this digit, and in it a one in the right place. FXC cannot write to a vector's component by number.
fn one_counted(digit: u32) -> vec4<u32> {
    let word = vec4<u32>((digit >> 2u) & 3u) == vec4<u32>(0u, 1u, 2u, 3u);
    return vec4<u32>(word) << vec4<u32>(8u * (digit & 3u));
}

fn add_counts(counts: vec4<u32>, counters: u32) {
    for (var i = 0u; i < 4u; i += 1u) {
        team_add(counters + 2u * i, counts[i] & 0xff00ffu);
        team_add(counters + 2u * i + 1u, (counts[i] >> 8u) & 0xff00ffu);
    }
}

fn counted(counters: u32, digit: u32) -> u32 {
    return (team_word(counters + digit / 4u * 2u + digit % 2u) >> (digit / 2u % 2u * 16u)) & 0xffffu;
}

// The set of two rounds ahead: everybody has read it before the barrier that is just behind us.
fn clear_set(round: u32, me: u32) {
    for (var i = me; i < SET_WORDS; i += TEAM) {
        team_set((round % SETS) * SET_WORDS + i, 0u);
    }
}

// Digits of 16 bits in the team's words, to words of 32 bits.
fn write_sums(at: u32, words: u32) {
    for (var i = 0u; i < words; i += 1u) {
        sums[at + i] = team_word(2u * i) | (team_word(2u * i + 1u) << 16u);
    }
}

// Mask bits and zeroed losers of all the workgroup's rows. Uniform flow. Where a row is `spoiled` by a score that is no number, its entries
// stay as they are and the others are written one by one.
fn carry_out_all(first: u32, end: u32, spoiled: bool, lane: u32) {
    for (var tile = first & ~31u; tile < end; tile += TILE_ENTRIES) {
        var flags = 0u;
        for (var i = 0u; i < TILE_WORDS; i += 1u) {
            let word_at = tile / PER_WORD + i * LANES + lane;
            var bits = 0u;
            var ours = 0u;
            for (var half = 0u; half < PER_WORD; half += 1u) {
                let at = word_at * PER_WORD + half;
                if (at >= first && at < end) {
                    ours += 1u;
                    let local = at - first;
                    let row = row_of(local);
                    let place = local - row * params.group_len;
                    let key = wg_keys[row * (params.group_len | 1u) + place];
                    let threshold = wg_threshold[row];
                    let keep = key > threshold || (key == threshold && place < wg_limit[row]);
                    if (!spoiled) {
                        if (keep) {
                            bits |= entry_bits(half);
                            flags |= 1u << (i * PER_WORD + half);
                        }
                    } else if (atomicLoad(&wg_bad[row]) != 0u) {
                        bits |= entry_bits(half);
                    } else if (keep) {
                        bits |= entry_bits(half);
                        write_bit(at, 1u);
                    } else {
                        write_bit(at, 0u);
                    }
                }
            }
            if (ours == PER_WORD) {
                keep_bits(word_at, load_word(word_at), bits);
            }
        }
        if (params.mask != 0u && !spoiled) {
            set_flags(lane, flags);
            workgroupBarrier();
            let mask_word = tile / 32u + lane;
            if (lane < TILE_ENTRIES / 32u && mask_word * 32u < end) {
                write_mask(mask_word, gather(lane), first, end);
            }
        }
        workgroupBarrier();
    }
}

// One bit of the mask; the last entry of the slice brings the unused bits behind it.
fn write_bit(at: u32, bit: u32) {
    if (params.mask == 0u) {
        return;
    }
    var others = ~(1u << (at % 32u));
    if (at + 1u == params.len) {
        others = ~(0xffffffffu << (at % 32u));
    }
    atomicAnd(&mask[at / 32u], others);
    atomicOr(&mask[at / 32u], bit << (at % 32u));
}
