#!/usr/bin/env python3
"""emprune and what people use today, in one run: the paper's way in PyTorch, better ways in PyTorch and NumPy, CuPy on a GPU.

Every answer is checked before it is timed; of a peer's in bf16, whose N_eff has three digits, it is only said by how many weights it is off. Each way takes turns with a copy of the same bytes, and is stated as a multiple of that
copy; between two ways compare times. Writes DATE-NAME.json and DATE-NAME.md to benches/record/ and prints the latter.

    pip install numpy torch                   # cupy too, if there is a CUDA device; what is missing is named and skipped
    benches/peers.py                          # the CPU: 1e6, 1e7, 1e8
    benches/peers.py --gpu --adapter NVIDIA   # the GPU; benches/gpu runs the tests on it first
"""
import argparse
import datetime
import gc
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# numpy's own choice on AVX-512 machines can be several times slower than its AVX2 path (numpy#32690): both are timed.
AVX2_ONLY = "X86_V4 AVX512_ICL"
# The ways of emprune itself, as `emprune bench` calls them.
OURS = ("host", "device", "device without sums")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", help="numbers of entries, as emprune bench takes them; 1e6,1e7,1e8, and powers of 2 up to 2^30 for --gpu")
    parser.add_argument("--rows", help="ROWSxLENGTH of the matrix; 4096x4096, 4096x11008 for --gpu")
    parser.add_argument("--hostile", help="the size at which hostile inputs are timed; 1e7, 2^28 for --gpu")
    parser.add_argument("--repeats", type=int, help="runs of a way; by default fewer for large sizes")
    parser.add_argument("--memory", default="32GiB", help="the most that emprune bench may take")
    parser.add_argument("--device-only", action="store_true", help="of emprune the jobs on the device alone; in a few minutes")
    parser.add_argument("--gpu", action="store_true", help="a device's ways, emprune's and CUDA's")
    parser.add_argument("--adapter", help="the adapter, by a part of its name")
    parser.add_argument("--emprune", type=Path, help="the program; by default it is built")
    parser.add_argument("--skip", default="", help="peers to leave out: torch,numpy,cupy")
    parser.add_argument("--name", help="of the record; by default the processor's or adapter's")
    parser.add_argument("--out", type=Path, default=ROOT / "benches" / "record")
    parser.add_argument("--numpy-only", metavar="N", help=argparse.SUPPRESS)  # the process with other CPU features
    args = parser.parse_args()
    args.sizes = args.sizes or ("2^20,2^22,2^24,2^26,2^28,2^30" if args.gpu else "1e6,1e7,1e8")
    args.rows = args.rows or ("4096x11008" if args.gpu else "4096x4096")
    args.hostile = args.hostile or ("2^28" if args.gpu else "1e7")
    return args


def number(text):
    """1e6, 2^24, 1000 as an int."""
    base, _, power = text.partition("^")
    return int(base) ** int(power) if power else int(float(text))


# ---- the ways. Each takes weights and returns pruned ones; N_eff in the precision that its users take.


def torch_ways(torch):
    def budget(scores, dim=None):
        share = scores / (scores.sum() if dim is None else scores.sum(dim, keepdim=True))
        n_eff = 1.0 / (share * share).sum() if dim is None else 1.0 / (share * share).sum(dim)
        return share, n_eff

    def count(scores):
        share, n_eff = budget(scores)
        return share, max(1, min(scores.numel(), int(n_eff)))

    def paper(w):
        """As the reference code does it: normalise, sort, scatter, multiply."""
        share, k = count(w.abs())
        order = torch.sort(share, descending=True).indices
        mask = torch.zeros_like(w)
        mask.scatter_(0, order[:k], 1.0)
        return w * mask

    def kthvalue(w):
        scores = w.abs()
        _, k = count(scores)
        return w * (scores >= torch.kthvalue(scores, scores.numel() - k + 1).values)

    def topk(w):
        scores = w.abs()
        _, k = count(scores)
        mask = torch.zeros_like(w)
        mask.scatter_(0, torch.topk(scores, k, sorted=False).indices, 1.0)
        return w * mask

    def paper_rows(w):
        share, n_eff = budget(w.abs(), 1)
        k = n_eff.floor().clamp(1, w.shape[1])
        order = torch.sort(share, dim=1, descending=True).indices
        keep = (torch.arange(w.shape[1], device=w.device)[None, :] < k[:, None]).to(w.dtype)
        mask = torch.zeros_like(w)
        mask.scatter_(1, order, keep)
        return w * mask

    flat = {"torch, the paper's way": paper, "torch.kthvalue": kthvalue, "torch.topk": topk}
    return flat, {"torch, the paper's way": paper_rows}


def array_ways(np, label):
    """NumPy's and CuPy's."""

    def partition(w):
        scores = np.abs(w)
        total, squares = float(scores.sum(dtype=np.float64)), float((scores.astype(np.float64) ** 2).sum() if label == "cupy" else np.dot(scores, scores))
        k = max(1, min(scores.size, int(total * total / squares)))
        threshold = np.partition(scores, scores.size - k)[scores.size - k]
        return w * (scores >= threshold)

    return {f"{label}.partition": partition}


# ---- checks


def exact(weights):
    """What the rule keeps: exact integers, ties to the lower index. For small vectors."""
    scores = [Fraction(abs(float(w))) for w in weights]
    total, squares = sum(scores), sum(s * s for s in scores)
    k = max(1, min(len(scores), total * total // squares))
    kept = set(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k])
    return [i in kept for i in range(len(scores))]


def check_exactly(np, emprune, ways):
    """On one small vector everybody must say what exact arithmetic says: the program, and the peers' ways on the CPU."""
    weights = np.random.default_rng(3).standard_normal(20_000).astype(np.float32)
    want = np.array(exact(weights))
    with tempfile.TemporaryDirectory() as folder:
        header = json.dumps({"w": {"dtype": "F32", "shape": [1, weights.size], "data_offsets": [0, weights.nbytes]}}).encode()
        Path(folder, "in").write_bytes(len(header).to_bytes(8, "little") + header + weights.tobytes())
        command = [emprune, "prune", "in", "-o", "out", "--granularity", "tensor", "--targets", "w", "--backend", "cpu"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        pruned = np.frombuffer(Path(folder, "out").read_bytes()[8 + len(header) :], np.float32)
    if not np.array_equal(pruned, np.where(want, weights, 0)):
        sys.exit("wrong answer: emprune keeps other weights than exact arithmetic")
    for name, way in ways.items():
        off = int(((way(weights) != 0) != want).sum())
        # A sum in f32 moves N_eff by about 1e-6 of it: by nothing, mostly by less than one weight here.
        if off > 1:
            sys.exit(f"wrong answer: {name} differs from exact arithmetic in {off} of {weights.size} weights")


def check_large(np, name, w, pruned):
    """At the size that is timed: the count by sums in f64, and that nothing is kept that is less than what is dropped. Returns by how many weights it is off."""
    scores = np.abs(w.astype(np.float64, copy=False)).reshape(w.shape[0] if w.ndim == 2 else 1, -1)
    kept = (pruned != 0).reshape(scores.shape)
    off = 0
    for row, keep in zip(scores, kept):
        k = int(row.sum() ** 2 / np.dot(row, row))
        off += abs(int(keep.sum()) - k)
        # What is kept must lie above what is not, but for weights that become equal when they are divided in f32, as the paper's way does.
        if keep.any() and not keep.all() and row[keep].min() < row[~keep].max() * (1 - 1e-6):
            sys.exit(f"wrong answer: {name} keeps a smaller weight than one that it drops")
    # A dot product of 10^8 squares in f32 may be off by two in a thousand, as libraries add them up.
    if off > max(1, 1e-2 * scores.size):
        sys.exit(f"wrong answer: {name} is off by {off} of {scores.size}")
    return off


# ---- the clock


def turns(ways, weights, copy, sync, repeats):
    """Every way in turns with a copy: medians, by name."""
    times, copies = {name: [] for name in ways}, []

    def timed(work):
        gc.collect()
        sync()
        start = time.perf_counter()
        result = work()
        sync()
        seconds = time.perf_counter() - start
        del result
        return seconds

    copy()
    for _ in range(repeats):
        for name, way in ways.items():
            copies.append(timed(copy))
            times[name].append(timed(lambda: way(weights)))
    return {name: statistics.median(t) for name, t in times.items()}, statistics.median(copies)


def lines(kind, entries, row_len, dtype, result, off):
    times, memcpy = result
    return [
        dict(way=name, entries=entries, dtype=dtype, granularity=kind, row_len=row_len, seconds=seconds,
             memcpy_seconds=memcpy, memcpy_ratio=seconds / memcpy, off=off.get(name))
        for name, seconds in times.items()
    ]  # fmt: skip


def repeats_of(args, entries):
    return args.repeats or (7 if entries <= 2_000_000 else 3 if entries <= 30_000_000 else 2)


def run_numpy(np, args, entries, label):
    w = np.random.default_rng(1).standard_normal(entries, dtype=np.float32)
    to, ways = np.empty_like(w), array_ways(np, label)
    off = {name: check_large(np, name, w, way(w)) for name, way in ways.items()}
    result = turns(ways, w, lambda: np.copyto(to, w), lambda: None, repeats_of(args, entries))
    return lines("tensor", entries, entries, "f32", result, off)


def numpy_with_avx2(args, entries):
    """The features are chosen when numpy is loaded: another process."""
    command = [sys.executable, __file__, "--numpy-only", str(entries)]
    if args.repeats:
        command += ["--repeats", str(args.repeats)]
    env = {**os.environ, "NPY_DISABLE_CPU_FEATURES": AVX2_ONLY}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def run_torch(torch, np, args, device, shape, dtype):
    entries = shape[0] * (shape[1] if len(shape) == 2 else 1)
    w = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype)).to(device)
    to = torch.empty_like(w)
    flat, rows = torch_ways(torch)
    ways = rows if len(shape) == 2 else dict(flat)
    sync = torch.cuda.synchronize if device == "cuda" else lambda: None
    off = {}
    for name, way in list(ways.items()):
        try:
            pruned = way(w)
        except RuntimeError as error:  # out of memory, or more entries than the way takes
            print(f"{name}: skipped at {entries}: {str(error).splitlines()[0]}", file=sys.stderr)
            del ways[name]
            continue
        if dtype == "float32":
            off[name] = check_large(np, name, w.cpu().numpy(), pruned.cpu().numpy())
        else:  # N_eff in bf16 has three digits; what it makes of them is reported, not judged
            scores = w.double().abs()
            off[name] = abs(int((pruned != 0).sum()) - int(scores.sum() ** 2 / (scores * scores).sum()))
        del pruned
    if not ways:
        return []
    result = turns(ways, w, lambda: to.copy_(w), sync, repeats_of(args, entries))
    kind, row_len = ("row", shape[1]) if len(shape) == 2 else ("tensor", entries)
    return lines(kind, entries, row_len, {"float32": "f32", "bfloat16": "bf16"}[dtype], result, off)


def run_cupy(cupy, np, args, entries):
    w = cupy.asarray(np.random.default_rng(1).standard_normal(entries, dtype=np.float32))
    to, ways = cupy.empty_like(w), array_ways(cupy, "cupy")
    off = {name: check_large(np, name, cupy.asnumpy(w), cupy.asnumpy(way(w))) for name, way in ways.items()}
    result = turns(ways, w, lambda: cupy.copyto(to, w), cupy.cuda.get_current_stream().synchronize, repeats_of(args, entries))
    return lines("tensor", entries, entries, "f32", result, off)


# ---- emprune


def build():
    subprocess.run(["cargo", "build", "--release", "-p", "emprune-cli"], cwd=ROOT, check=True)
    meta = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version=1", "--no-deps"], cwd=ROOT))
    return Path(meta["target_directory"], "release", "emprune")


def bench(args, *more):
    command = [args.emprune, "bench", "--json", "--memory", args.memory, *more]
    if args.device_only and "--plan" not in more:
        command.append("--device-only")
    if args.gpu:
        command += ["--backend", "auto"] + (["--adapter", args.adapter] if args.adapter else [])
    else:
        command += ["--backend", "cpu"]
    print("$", *command[1:], file=sys.stderr, flush=True)
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def run_emprune(args):
    """The cases of the table of targets."""
    rows, row_len = (int(n) for n in args.rows.split("x"))
    peers = [] if args.gpu else ["--peers"]
    sums = ["--without-sums"] if args.gpu else []
    reports = [
        bench(args, "--sizes", args.sizes, "--dtype", "f32", "--granularity", "tensor", *peers, *sums),
        bench(args, "--sizes", args.sizes, "--dtype", "bf16", "--granularity", "tensor", *sums),
        bench(args, "--sizes", str(rows * row_len), "--row-len", str(row_len), "--granularity", "row", *peers, *sums),
        bench(args, "--sizes", args.sizes.split(",")[-1], "--dtype", "f32", "--granularity", "tensor", "--task", "mask"),
        bench(args, "--sizes", args.hostile, "--granularity", "tensor", "--input", "normal,lognormal,int8,equal,zeros", "--task", "prune,mask"),
    ]
    if args.gpu:
        reports.append(bench(args, "--plan", "--sizes", args.sizes, "--row-len", str(row_len)))
        # Whether subgroups pay.
        reports.append(bench(args, "--sizes", args.hostile, "--granularity", "tensor", "--gpu-variant", "portable"))
        reports.append(bench(args, "--sizes", str(rows * row_len), "--row-len", str(row_len), "--granularity", "row", "--gpu-variant", "portable"))
    for report in reports[4:]:
        report["crossovers"] = []  # of one size
    whole = reports[0]
    for report in reports[1:]:
        for name in ("results", "crossovers", "plans", "skipped"):
            whole[name] += report[name]
    return whole


# ---- the targets

# Which line says what: on a device or not, granularity, dtype, task; x memcpy that must and should be reached.
TARGETS = [
    (True, "tensor", "f32", "prune", 2.5, 2.0),
    (True, "tensor", "bf16", "prune", 2.5, 2.0),
    (True, "row", "f32", "prune", 2.0, 1.4),
    (True, "row", "bf16", "prune", 2.5, 1.4),
    (True, "tensor", "f32", "mask", 1.6, 1.1),
    (False, "tensor", "f32", "prune", 4.0, 2.5),
    (False, "row", "f32", "prune", 4.0, 2.5),
    (False, "tensor", "bf16", "prune", 5.0, 3.0),
]
# How much longer hostile inputs may take than normal ones.
HOSTILE = {"prune": (2.5, 2.0), "mask": (3.0, 2.0)}
# How many times longer than emprune others must take for a whole tensor of f32, on a device or not.
SLOWER = {(True, "torch, the paper's way"): 10.0, (False, "torch, the paper's way"): 80.0, (False, "select_nth_unstable"): 2.0}


def verdict(reached, must, goal):
    return "goal" if reached <= goal else "must" if reached <= must else "missed"


def targets(record):
    """A line for each target that this run says something about: what was reached at every size from 2^28 on, or else at the largest."""
    way = "device" if record["gpu"] else "host"
    normal, hostile, tensors = {}, [], {}
    for line in record["emprune"]["results"]:
        if line["way"] != way or (not record["gpu"] and line["backend"] != "cpu") or line["variant"] not in (None, record["variant"]):
            continue
        kind = line["granularity"], line["dtype"], line["task"]
        if line["input"] != "normal":
            hostile.append((kind, line))
            continue
        if kind == ("tensor", "f32", "prune"):
            tensors.setdefault(line["entries"], line)
        normal.setdefault(kind, []).append(line)
    text = []
    for gpu, *kind, must, goal in TARGETS:
        lines = sorted(normal.get(tuple(kind), []), key=lambda line: line["entries"])
        for line in [line for line in lines if line["entries"] >= 1 << 28] or lines[-1:]:
            if gpu != record["gpu"]:
                continue
            reached = line["memcpy_ratio"]
            name = f"{' '.join(kind)}, {line['entries']}" + (", one run" if line["runs"] == 1 else "")
            text.append((name, f"{line['floor_ratio']:.2f}", must, goal, f"{reached:.2f}", verdict(reached, must, goal)))
            if line.get("memcpy_by") == "shader":  # which is faster than the driver's copy
                reached = line["seconds"] / line["driver_copy_seconds"]
                text.append(("the same, over the driver's copy", "", must, goal, f"{reached:.2f}", verdict(reached, must, goal)))
    for kind, line in hostile:
        base = next((n for n in record["emprune"]["results"] if n["input"] == "normal" and n["way"] == way and n["backend"] == line["backend"]
                     and n["variant"] == line["variant"] and (n["granularity"], n["dtype"], n["task"]) == kind and n["entries"] == line["entries"]), None)  # fmt: skip
        if base:
            reached, (must, goal) = line["seconds"] / base["seconds"], HOSTILE[line["task"]]
            text.append((f"{line['input']}, {' '.join(kind)}, over normal", "", must, goal, f"{reached:.2f}", verdict(reached, must, goal)))
    # Others at the largest size at which we are there too.
    others = {}
    for other in sorted(record["peers"] + record["emprune"]["results"], key=lambda line: line["entries"]):
        if (other["granularity"], other["dtype"]) == ("tensor", "f32") and other["entries"] in tensors:
            others[other["way"]] = other
    for other in others.values():
        must, line = SLOWER.get((record["gpu"], other["way"])), tensors[other["entries"]]
        if must:
            reached = other["seconds"] / line["seconds"]
            text.append((f"{other['way']} over emprune, {line['entries']}", "", must, "", f"{reached:.1f}", "must" if reached >= must else "missed"))
    return text


# ---- the record


def seconds(s):
    return f"{s * 1e6:.1f} us" if s < 1e-3 else f"{s * 1e3:.2f} ms" if s < 1 else f"{s:.2f} s"


def markdown(record):
    text = [f"# {record['date']}, {record['machine']}", ""]
    text += [f"* {name}: {value}" for name, value in record["environment"].items()]
    text += ["", "Times are medians. `x memcpy`: over a copy of the same bytes in turns with it, on the same threads or device.",
             "`slower than emprune`: over emprune's time for the same case, in this run.", ""]  # fmt: skip
    ours = record["emprune"]["results"]
    at_home = "device" if record["gpu"] else "host"
    best = {}
    for line in ours:
        if line["way"] == at_home and line["input"] == "normal" and line["task"] == "prune":
            best.setdefault(tuple(line[k] for k in ("granularity", "dtype", "entries")), line["seconds"])
    judged = targets(record)
    text += ["| target, x memcpy unless said otherwise | floor | must | goal | reached | |", "|---|---|---|---|---|---|"] if judged else []
    text += ["| " + " | ".join(str(part) for part in line) + " |" for line in judged] + ([""] if judged else [])
    text += ["| entries | contest | input, task | way | time | ns/entry | x memcpy | floor | GB/s | slower than emprune |",
             "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    kind = lambda line: (line["granularity"], line["dtype"], line["entries"], line.get("task") == "mask", line.get("input", "normal") != "normal")
    for line in sorted(ours + record["peers"], key=kind):
        input_, task = line.get("input", "normal"), line.get("task", "prune")
        key = tuple(line[k] for k in ("granularity", "dtype", "entries"))
        is_peer = "backend" not in line or line["way"] not in OURS
        other = f"{line['seconds'] / best[key]:.1f}" if is_peer and key in best else ""
        contest = f"{line['dtype']} " + (f"rows of {line['row_len']}" if line["granularity"] == "row" else "tensor")
        way = line["way"] if "backend" not in line else f"emprune on {line['backend']}, {line['way']}" + (f", {line['variant']}" if line["variant"] else "") if not is_peer else f"Rust, {line['way']}"
        floor, rate = line.get("floor_ratio"), line.get("gigabytes_per_second")
        text.append("| " + " | ".join([
            str(line["entries"]), contest, f"{input_}, {task}", way, seconds(line["seconds"]),
            f"{line['seconds'] / line['entries'] * 1e9:.3f}", f"{line['memcpy_ratio']:.2f}",
            f"{floor:.2f}" if floor else "", f"{rate:.1f}" if rate else "", other]) + " |")  # fmt: skip
    off = [line for line in record["peers"] if line["off"]]
    if off:
        text += ["", "Weights by which a peer's count differs from the exact one (their sums are f32 or bf16):", ""]
        text += [f"* {line['way']}, {line['dtype']} {line['granularity']} of {line['entries']}: {line['off']}" for line in off]
    crossovers = [c for c in record["emprune"]["crossovers"] if (c["task"], c["input"]) == ("prune", "normal")]
    text += ["", "From which size on the GPU is faster than the CPU:", ""] if crossovers else []
    for cross in crossovers:
        size = lambda n: f"from {n} entries on" if n else f"at none up to {cross['up_to']}"
        text.append(f"* {cross['dtype']} {cross['granularity']}: on the device {size(cross['device_entries'])}, "
                    f"with upload and readback {size(cross['host_entries'])}")  # fmt: skip
    text += ["", "What the plans predict:", ""] if record["emprune"]["plans"] else []
    for plan in record["emprune"]["plans"]:
        text.append(f"* {plan['dtype']} {plan['granularity']} of {plan['entries']}: {plan['memcpy_ratio']:.3f} of a copy's bytes "
                    f"(floor {plan['floor_ratio']:.2f}), {plan['dispatches']} dispatches")  # fmt: skip
    text += ["", "Left out:", ""] if record["emprune"]["skipped"] else []
    text += [f"* {s['task']} {s['dtype']} {s['granularity']} of {s['entries']}: {s['reason']}" for s in record["emprune"]["skipped"]]
    return "\n".join(text) + "\n"


def processor():
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()


def loaded(name, args):
    if name in args.skip.split(","):
        return None
    try:
        return __import__(name)
    except ImportError:
        print(f"{name}: not installed, skipped", file=sys.stderr)
        return None


def main():
    args = arguments()
    if args.numpy_only:
        import numpy

        return print(json.dumps(run_numpy(numpy, args, int(args.numpy_only), "numpy (AVX2)")))
    np, torch = loaded("numpy", args), loaded("torch", args)
    cupy = loaded("cupy", args) if args.gpu else None
    if not np:
        for name in [name for name, peer in (("torch", torch), ("cupy", cupy)) if peer]:
            print(f"{name}: skipped, as numpy is, which checks its answers", file=sys.stderr)
    args.emprune = args.emprune.resolve() if args.emprune else build()

    def version(*command):
        try:
            return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip() or "unknown"
        except FileNotFoundError:
            return "unknown"

    environment = {"processor": f"{processor()}, {os.cpu_count()} threads", "system": platform.platform(),
                   "rustc": version("rustc", "--version"), "commit": version("git", "describe", "--always", "--dirty")}  # fmt: skip
    peers, sizes = [], [number(size) for size in args.sizes.split(",")]
    shape = tuple(int(n) for n in args.rows.split("x"))
    if np:
        ways = {}
        if torch and not args.gpu:
            ways = {name: lambda w, way=way: way(torch.from_numpy(w)).numpy() for name, way in torch_ways(torch)[0].items()}
        check_exactly(np, args.emprune, {**ways, **array_ways(np, "numpy")})
    emprune = run_emprune(args)
    if np and not args.gpu:
        environment["numpy"] = np.__version__
        for entries in sizes:
            print(f"numpy {entries}", file=sys.stderr, flush=True)
            peers += run_numpy(np, args, entries, "numpy")
            peers += numpy_with_avx2(args, entries)
    device = "cuda" if args.gpu else "cpu"
    if torch and np and (not args.gpu or torch.cuda.is_available()):
        environment["torch"] = torch.__version__ + (f" on {torch.cuda.get_device_name()}" if args.gpu else f", {torch.get_num_threads()} threads")
        jobs = [((entries,), "float32") for entries in sizes] + [(shape, "float32"), ((sizes[-1],), "bfloat16")]
        for of, dtype in jobs:
            print(f"torch {of} {dtype}", file=sys.stderr, flush=True)
            peers += run_torch(torch, np, args, device, of, dtype)
    if cupy and np:
        environment["cupy"] = cupy.__version__
        for entries in sizes:
            peers += run_cupy(cupy, np, args, entries)
    adapters = [f"{a['name']} ({a['interface']}), driver {a['driver']}, {a['variant']} shaders" for a in emprune["adapters"]]
    if adapters:
        environment["adapter"] = "; ".join(adapters)
    environment["emprune"] = f"{emprune['emprune_version']}, {emprune['threads']} threads, {emprune['simd']}"
    machine = args.name or (emprune["adapters"][0]["name"] if args.gpu and adapters else processor())
    variant = emprune["adapters"][0]["variant"] if adapters else None
    record = dict(schema="emprune.record/1", variant=variant, date=datetime.date.today().isoformat(), machine=machine, gpu=args.gpu,
                  command=["benches/peers.py", *sys.argv[1:]], environment=environment, emprune=emprune, peers=peers)  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    name = record["date"] + "-" + re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")
    (args.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (args.out / f"{name}.md").write_text(markdown(record))
    print(markdown(record))
    print(f"wrote {args.out / name}.json and .md", file=sys.stderr)


if __name__ == "__main__":
    main()
