#!/usr/bin/env python3
"""How long lanes of 32 wait for each other at a first digit's counters, and what share of the entries its threshold's bin leaves.

For each input and way of counting: passes, the most lanes that add to one counter at once, as a mean over steps of 32 lanes (0 where none adds);
and candidates, in percent. Ways: each lane adds for each entry that is not zero; it adds when its next entry has another bin; and eight lanes each begin
another one of the next four words: all with eight bins for a power of two. Then each adds with a digit that has 128 bins for each of sixteen powers of two
around the threshold, and two for every other one (shaders/parts/bins.wgsl, as it is). No GPU takes part, and nothing needs to be installed.
"""
import math
import random
import struct

WARPS, WORDS = 8, 96  # a workgroup of 256 lanes, and so many steps
LANES = 32 * WARPS


def key(x):
    return struct.unpack("<I", struct.pack("<f", abs(x)))[0]


def inputs(draw):
    n = LANES * WORDS
    normal = [draw.gauss(0, 1) for _ in range(n)]
    return {
        "normal": normal,
        "bf16 normal": [struct.unpack("<f", struct.pack("<I", key(x) & 0xFFFF0000))[0] for x in normal],
        "uniform": [draw.random() for _ in range(n)],
        "gradient x weight": [x * draw.gauss(0, 1) for x in normal],
        "lognormal s=2": [math.exp(2 * x) for x in normal],
        "lognormal s=4": [math.exp(4 * x) for x in normal],
        "int8 levels": [round(32 * x) for x in normal],
        "90 % zeros": [x if draw.random() < 0.1 else 0.0 for x in normal],
        "all equal": [0.5] * n,
        "two values": [3.0 if draw.random() < 1 / 3 else 1.0 for _ in range(n)],
        "ascending": sorted(abs(x) for x in normal),
        "64 neighbours equal": [normal[i // 64] for i in range(n)],
        "other every 256": [1.0 + i // LANES % 2 for i in range(n)],
    }


def passes(bins, runs, turns):
    """The mean over steps of a warp; the last additions of runs are not worth counting."""
    total = 0
    for warp in range(WARPS):
        before = [None] * 32
        for step in range(WORDS):
            adds = {}
            for lane in range(32):
                word = step // 4 * 4 + (step + lane // 8) % 4 if turns else step
                bin_ = bins[word * LANES + warp * 32 + lane]
                # Zeros are counted apart, and end no run.
                if bin_ is None or (runs and before[lane] == bin_):
                    continue
                target = before[lane] if runs else bin_
                before[lane] = bin_
                if target is not None:
                    adds[target] = adds.get(target, 0) + 1
            total += max(adds.values(), default=0)
    return total / (WARPS * WORDS)


def main():
    print("| input | kept | each entry | runs | runs in turns | in focus | candidates | in focus |")
    print("|---|---|---|---|---|---|---|---|")
    for name, values in inputs(random.Random(7)).items():
        keys = [key(x) for x in values]
        total, squares = sum(map(abs, values)), sum(x * x for x in values)
        kept = max(1, min(len(keys), int(total * total / squares)))
        threshold = sorted(keys)[-kept]
        first = min(max((threshold >> 23) - 11, 0), 239) << 23
        plain = lambda k: k >> 20
        fine = lambda k: (first >> 22) + (k - first >> 16) if first <= k < first + (16 << 23) else (k >> 22) + 2016 * (k >= first)
        of = lambda digit: [digit(k) if k else None for k in keys]
        share = lambda digit: 100 * sum(digit(k) == digit(threshold) for k in keys) / len(keys)
        print(f"| {name} | {100 * kept / len(keys):.2g} % | {passes(of(plain), False, False):.1f} | {passes(of(plain), True, False):.1f} | "
              f"{passes(of(plain), True, True):.1f} | {passes(of(fine), False, False):.1f} | {share(plain):.2g} % | {share(fine):.2g} % |")  # fmt: skip


if __name__ == "__main__":
    main()
