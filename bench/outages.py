"""How fast a daemon's death and its return are noticed, and how many frames are
lost in between."""

import measure
import report


def outage(mode, rounds, *arguments, more=()):
    return measure.tool("outage", "-m", mode, "-r", rounds, *arguments, "--",
                        *measure.forwarder(*more).command.split())


def show_times(title, unit, lines):
    report.table(f"{title}, {unit}",
                 ["what", "n", "p50", "p90", "p99", "max", "goal"],
                 [[what, d["n"], *(f"{d[k]:.2f}" for k in ("p50", "p90", "p99", "max")),
                   goal] for what, d, goal in lines])


def recovery(options):
    rounds = 20 if options.quick else 200
    result = outage("recovery", rounds, "-g", 100)
    total = [us / 1e3 for us in result["recovery_us"]]
    dial = [us / 1e3 for us in result["dial_us"]]
    d = measure.distribution(total)
    good = d["p50"] <= 0.5 and d["p99"] <= 2
    show_times("Recovery: from listen() of the returned daemon to", "ms", [
        ["the first connection", measure.distribution(dial), ""],
        ["the first frame from the guest", d,
         "p50 ≤ 0.5, p99 ≤ 2: " + ("reached" if good else "missed")]])
    report.cumulative(
        "recovery", "From listen() of the returned daemon", "milliseconds",
        {"to the connection": dial, "to the first frame": total})
    return {"rounds": rounds, "recovery_ms": total, "dial_ms": dial,
            "recovery": d}


def restart(options):
    """From the death of a daemon that the forwarder starts (exec:) to the first
    frame that the next one reads, and the daemon's own start beside it."""
    rounds = 20 if options.quick else 200
    result = measure.tool("restart", "-r", rounds, "--", measure.FORWARDER,
                          *"-g fd:{fd} -n {net} -o log.level=error".split())
    started, restarted = ([us / 1e3 for us in result[key]]
                          for key in ("start_us", "restart_us"))
    own, again = map(measure.distribution, (started, restarted))
    over = {key: again[key] - own[key] for key in ("p50", "p99")}
    show_times("From the death of the daemon to its first frame", "ms", [
        ["its own start, without forwarder", own, ""],
        ["started by forwarder", again, "own start + 2: " + (
            "reached" if max(over.values()) <= 2 else "missed")]])
    return {"rounds": rounds, "started_ms": started, "restarted_ms": restarted,
            "over_own_start_ms": over}


def detection(options):
    rounds = 20 if options.quick else 200
    lines, data = [], {}
    for mode in ("close", "kill"):
        result = outage(mode, rounds)
        for key, what in (("redial_us", "next dial"), ("log_us", "log line")):
            times = [us / 1e3 for us in result[key] if us > 0]
            if not times:
                continue
            d = measure.distribution(times)
            lines.append([f"{mode} → {what}", d, "p99 ≤ 1: " + (
                "reached" if d["p99"] <= 1 else "missed")])
            data[f"{mode}_{key[:-3]}_ms"] = times
    show_times("Detection: death of the peer", "ms", lines)
    report.cumulative("detection", "From the death of the daemon",
                      "milliseconds", data)
    data["silent_s"] = silent_deaths(options)
    return data


def silent_deaths(options):
    """Expected: interval * (count + 1) after the last byte."""
    rounds = 3 if options.quick else 20
    expected = 0.2 * 6
    result = outage(
        "silent", rounds,
        more=("keepalive.mode=arp", "keepalive.gateway=192.0.2.1",
              "keepalive.interval=200ms", "keepalive.count=5"))
    times = [us / 1e6 for us in result["dead_after_us"] if us > 0]
    if not times:
        print("\n  Silent death: not detected, the program sends no probes")
        return times
    off = max(abs(t / expected - 1) for t in times)
    report.table("Silent death, interval 200 ms, count 5", [
        "rounds", "expected s", "least", "most", "goal ± 1 %"], [
        [len(times), f"{expected:.3f}", f"{min(times, default=0):.4f}",
         f"{max(times, default=0):.4f}",
         "reached" if off <= 0.01 else f"missed, {off:.1%}"]])
    return times


def loss(options):
    rounds = 10 if options.quick else 100
    rows = []
    for what, size in (("1514 B", 1514), ("mixed sizes", 0)):
        result = outage("loss", rounds, "-g", 0, "-s", size,
                        more=["network.hold=30s"])
        rows.append({"frames": what, **result})
    report.table(
        f"Frames during {rounds} deaths of the daemon, guest at full speed",
        ["frames", "sent", "lost", "twice", "damaged", "goal 0 lost"],
        [[r["frames"], r["sent"], r["lost"], r["again"], r["damaged"],
          "missed" if r["lost"] or r["damaged"] else "reached"]
         for r in rows])
    return {"rows": rows}
