"""The speed of the forwarder compared with floor, naive and QEMU's hub."""

import os
import statistics

import measure
import report

SIZES = (64, 1514, 9014, 65000)
PAIR_SIZES = (1514, 65000)
DIRECTIONS = ("up", "down", "both")


def print_noise(rows, noise, key):
    for reason in measure.is_noisy(rows, noise, key):
        print(f"    noisy: {reason}")


def compared(options, key, keys, sizes, directions, window_ms,
             pair=measure.USUAL):
    """Measures all sizes and directions and prints each as it is done."""
    programs = measure.variants(options.variant, pair)
    all_rows, noises = [], []
    for size in sizes:
        for direction in directions:
            rows, noise = measure.compare(
                programs, size, direction, options.rounds, options.cycles,
                window_ms, keys, pair)
            print(f"  {report.label(size, direction)}: " + ", ".join(
                f"{row['variant']} {row['ratios'][key]['median']:.3f}"
                for row in rows[1:]), flush=True)
            print_noise(rows, noise, key)
            all_rows += rows
            noises.append({"size": size, "direction": direction,
                           "pair": pair.name, **noise})
    return all_rows, noises


def of_variant(rows, name):
    return [row for row in rows if row["variant"] == name]


def plot_ratios(name, title, rows, key):
    names = [n for n in dict.fromkeys(row["variant"] for row in rows)
             if n != "floor"]
    groups = [f"{row['size']} {row['direction']}"
              for row in of_variant(rows, "floor")]
    report.bars(name, title, "× floor", groups, {
        n: [row["ratios"][key] for row in of_variant(rows, n)] for n in names})


def throughput(options):
    keys = ("frames_per_s", "gbit_per_s", "up_per_s", "down_per_s",
            "cpu_ns_per_frame", "cpu_percent", "switches_per_frame")
    rows, noise = compared(options, "frames_per_s", keys,
                           options.sizes or SIZES, DIRECTIONS,
                           options.window)
    report.table(
        "Throughput and processor time, ratios against the floor",
        ["frames", "variant", "kframes/s", "Gbit/s", "× floor", "ns/frame",
         "× floor", "lost"],
        [[report.label(r["size"], r["direction"]), r["variant"],
          f"{r['values']['frames_per_s']['median'] / 1e3:.0f}",
          f"{r['values']['gbit_per_s']['median']:.2f}",
          report.ratio(r["ratios"]["frames_per_s"]),
          f"{r['values']['cpu_ns_per_frame']['median']:.0f}",
          report.ratio(r["ratios"]["cpu_ns_per_frame"]), r["lost"]]
         for r in rows])
    goals_of_throughput(rows)
    plot_ratios("throughput", "Throughput", rows, "frames_per_s")
    plot_ratios("processor", "Processor time per frame", rows,
                "cpu_ns_per_frame")
    return {"rows": rows, "noise": noise}


def pairs(options):
    """Every other pair of kinds of sockets, against the floor of that pair."""
    keys = ("frames_per_s", "gbit_per_s", "cpu_ns_per_frame")
    all_rows, noises = [], []
    for pair in measure.PAIRS:
        print(f"  {pair.name}", flush=True)
        rows, noise = compared(options, "frames_per_s", keys,
                               options.sizes or PAIR_SIZES, ("up", "down"),
                               options.window, pair)
        all_rows += [{"pair": pair.name, **row} for row in rows]
        noises += noise
    report.table(
        "Throughput and processor time, ratios against the floor of each pair",
        ["pair", "frames", "variant", "Gbit/s", "× floor", "ns/frame",
         "× floor", "lost"],
        [[r["pair"], report.label(r["size"], r["direction"]), r["variant"],
          f"{r['values']['gbit_per_s']['median']:.2f}",
          report.ratio(r["ratios"]["frames_per_s"]),
          f"{r['values']['cpu_ns_per_frame']['median']:.0f}",
          report.ratio(r["ratios"]["cpu_ns_per_frame"]), r["lost"]]
         for r in all_rows])
    report.table("Goals", ["pair", "frames", "throughput ≥ 0.95 floor"],
                 [[r["pair"], report.label(r["size"], r["direction"]),
                   report.verdict(r["ratios"]["frames_per_s"], 0.95, True)]
                  for r in of_variant(all_rows, "forwarder")])
    return {"rows": all_rows, "noise": noises}


def against(ratio, other):
    """The forwarder's ratio to the floor as a ratio to another program."""
    return {k: ratio[k] / other["median"] for k in ("median", "low", "high")}


def goals_of_throughput(rows):
    others = {(r["variant"], r["size"], r["direction"]): r["ratios"]
              for r in rows}
    lines = []
    for row in of_variant(rows, "forwarder"):
        where = row["size"], row["direction"]
        frames = row["ratios"]["frames_per_s"]
        cpu = row["ratios"]["cpu_ns_per_frame"]
        goals = [("throughput ≥ 0.95 floor", frames, 0.95, True),
                 ("processor ≤ 1.05 floor", cpu, 1.05, False)]
        if row["size"] == 1514:
            goals.append(("processor ≤ 0.4 naive", against(
                cpu, others["naive", *where]["cpu_ns_per_frame"]), 0.4, False))
        if ("qemu-hub", *where) in others:
            goals.append(("throughput ≥ QEMU hub", against(
                frames, others["qemu-hub", *where]["frames_per_s"]), 1, True))
        lines += [[report.label(*where), name, report.verdict(*goal)]
                  for name, *goal in goals]
    if lines:
        report.table("Goals", ["frames", "goal", "verdict"], lines)


def latency(options):
    keys = ("p50_us", "p90_us", "p99_us", "p999_us", "frames_per_s",
            "cpu_ns_per_frame", "switches_per_frame")
    rows, noise = compared(options, "p50_us", keys, options.sizes or SIZES,
                           ["rtt"], options.window * 2)
    report.table(
        "Round trip of one frame through the program and back, µs",
        ["frames", "variant", "p50", "× floor", "p99", "× floor", "p99.9",
         "ns/frame"],
        [[f"{r['size']} B", r["variant"],
          f"{r['values']['p50_us']['median']:.1f}",
          report.ratio(r["ratios"]["p50_us"]),
          f"{r['values']['p99_us']['median']:.1f}",
          report.ratio(r["ratios"]["p99_us"]),
          f"{r['values']['p999_us']['median']:.1f}",
          f"{r['values']['cpu_ns_per_frame']['median']:.0f}"] for r in rows])
    lines = [[f"{r['size']} B", f"{key[:3]} ≤ 1.05 floor",
              report.verdict(r["ratios"][key], 1.05, False)]
             for r in of_variant(rows, "forwarder")
             for key in ("p50_us", "p99_us")]
    if lines:
        report.table("Goals", ["frames", "goal", "verdict"], lines)
    plot_ratios("latency", "Median round trip", rows, "p50_us")
    return {"rows": rows, "noise": noise}


def syscalls(options):
    """A run of its own: counting costs time."""
    programs = [p for p in measure.variants(options.variant)
                if p.name != "floor again"]
    rows = []
    for size in options.sizes or SIZES:
        for direction in ("up", "down"):
            result = measure.load(programs, size, direction, 5, 100, "-c")
            rows += [{"size": size, "direction": direction,
                      "variant": program.name,
                      "syscalls_per_frame": statistics.median(
                          player["syscalls_per_frame"]),
                      "switches_per_frame": statistics.median(
                          player["switches_per_frame"])}
                     for program, player in zip(programs, result["players"])]
    report.table(
        "System calls and context switches per frame",
        ["frames", "variant", "calls", "switches"],
        [[report.label(r["size"], r["direction"]), r["variant"],
          f"{r['syscalls_per_frame']:.3f}", f"{r['switches_per_frame']:.3f}"]
         for r in rows])
    return {"rows": rows}


def capture(options):
    """The forwarder with a capture to /dev/null, compared with one without."""
    plain = measure.forwarder("log.level=error")
    programs = [plain, measure.Variant(
        "captured", os.path.join(measure.BENCH, "captured") + " "
        + plain.command)]
    programs += [measure.Variant(*text.split("=", 1))
                 for text in options.variant]
    rows = []
    for size in options.sizes or SIZES:
        for direction in DIRECTIONS:
            rows += measure.compare(
                programs, size, direction, options.rounds, options.cycles,
                options.window, ("frames_per_s", "cpu_ns_per_frame"))[0]
    report.table(
        "Throughput and processor time with a capture, ratios",
        ["frames", "variant", "throughput", "CPU per frame"],
        [[report.label(row["size"], row["direction"]), row["variant"],
          report.ratio(row["ratios"]["frames_per_s"]),
          report.ratio(row["ratios"]["cpu_ns_per_frame"])] for row in rows])
    return {"rows": rows}
