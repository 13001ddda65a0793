"""What the size of the network socket's send buffer is worth and costs:
throughput, frames that die in a killed daemon, and delay."""

import measure
import outages
import report

SIZES = (1514, 9014, 65000)
# 0 keeps the system's 208 KiB. Linux doubles the others.
BUFFERS = ("0", "64K", "128K", "256K", "512K", "1M", "2M", "4M")
# How a daemon reads: options of the tool `outage`. The slow one lives long enough
# for the largest buffer to fill.
DAEMONS = {"keeps up": ("-R", 0),
           "reads 1 Gbit/s": ("-R", 125_000_000, "-l", 150)}


def send_buffer(options):
    rows = throughput(options)
    deaths = [dying(options, size, daemon, buffer) for daemon in DAEMONS
              for size in options.sizes or SIZES for buffer in BUFFERS]
    report.table(
        "Killed daemons: frames that died inside, and delay until they are read",
        ["frames", "daemon", "send_buffer", "died", "p50 ms", "p99 ms"],
        [[f"{d['size']} B", d["daemon"], d["send_buffer"],
          f"{d['died']['median']:.0f}", f"{d['delay_p50_ms']:.1f}",
          f"{d['delay_p99_ms']:.1f}"] for d in deaths])
    plot(rows, deaths)
    return {"rows": rows, "deaths": deaths}


def throughput(options):
    """Ratios to the system's buffer, which is measured twice. Processes of the
    same program differ by more than the slices of one: many are started."""
    programs = [measure.forwarder("log.level=error",
                                  f"network.send_buffer={buffer}", name=name)
                for name, buffer in (*zip(BUFFERS, BUFFERS), ("0 again", "0"))]
    rows = []
    for size in options.sizes or SIZES:
        more, noise = measure.compare(
            programs, size, "up", options.rounds, max(options.cycles // 2, 1),
            options.window,
            ("frames_per_s", "gbit_per_s", "cpu_ns_per_frame"))
        rows += more
        print(f"  {size} B: other programs used "
              f"{noise['others_percent']:.0f} %", flush=True)
    report.table(
        "Throughput from the guest to the network, ratios to send_buffer=0",
        ["frames", "send_buffer", "Gbit/s", "× 0", "CPU per frame, × 0"],
        [[f"{r['size']} B", r["variant"],
          f"{r['values']['gbit_per_s']['median']:.2f}",
          report.ratio(r["ratios"]["frames_per_s"]),
          report.ratio(r["ratios"]["cpu_ns_per_frame"])] for r in rows])
    return rows


def dying(options, size, daemon, buffer):
    rounds = 4 if options.quick else 12
    result = outages.outage(
        "loss", rounds, "-g", 0, "-s", size, "-a", 5, "-b", 20,
        *DAEMONS[daemon],
        more=["network.hold=30s", f"network.send_buffer={buffer}"])
    return {"size": size, "daemon": daemon, "send_buffer": buffer,
            "rounds": rounds, "died": measure.spread(result["inside"]),
            "delay_p50_ms": result["delay_p50_us"] / 1e3,
            "delay_p99_ms": result["delay_p99_us"] / 1e3}


def plot(rows, deaths):
    """At 1514 B also what dies and the delay, for both daemons."""
    def of(what, daemon):
        return [what(d) for d in deaths
                if d["daemon"] == daemon and d["size"] == 1514]

    def delay(death):
        return {"median": death["delay_p50_ms"], "low": death["delay_p50_ms"],
                "high": death["delay_p99_ms"]}

    sizes = dict.fromkeys(row["size"] for row in rows)
    report.curves("send_buffer", "send buffer", BUFFERS, [
        ("Throughput, × 0", {f"{size} B": [
            r["ratios"]["frames_per_s"] for r in rows
            if r["size"] == size and r["variant"] in BUFFERS]
            for size in sizes}),
        ("Frames of 1514 B that die, if the daemon", {daemon: of(
            lambda d: d["died"], daemon) for daemon in DAEMONS}),
        ("Their delay, p50 and p99 in ms", {daemon: of(
            delay, daemon) for daemon in DAEMONS})])
