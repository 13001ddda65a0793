"""The cost of the keepalive: processor time and wakeups with and without."""

import contextlib
import threading
import time

import measure
import report
import resting

INTERVAL_S = 1
# Mode arp costs most: it searches passing frames for the gateway's MAC, here
# without end, because the load does not contain it.
ON = ("keepalive.mode=arp", "keepalive.gateway=192.0.2.1",
      f"keepalive.interval={INTERVAL_S}s")
PEER = ("keepalive.mode=peer", f"keepalive.interval={INTERVAL_S}s")
PING, PONG = 1, 2
TYPE = 4 + 19  # offset of a probe's type, after the length header
PROBE_BYTES = 4 + 60


def keepalive(options):
    rows, noises = under_load(options)
    return {"rows": rows, "noise": noises, "idle": while_idle(options)}


def under_load(options):
    """Ratios to keepalive.mode=off, which is measured twice."""
    quiet = "log.level=error"
    programs = [measure.forwarder(quiet, "keepalive.mode=off", name="off"),
                measure.forwarder(quiet, *ON, name="on"),
                measure.forwarder(quiet, "keepalive.mode=off",
                                  name="off again")]
    key = "cpu_ns_per_frame"
    all_rows, noises = [], []
    for direction in ("up", "down", "both"):
        rows, noise = measure.compare(programs, 1514, direction,
                                      options.rounds, options.cycles * 2,
                                      options.window, [key, "frames_per_s"])
        all_rows += rows
        noises.append({"direction": direction, **noise})
    report.table(
        "Processor time per frame of 1514 B, against keepalive.mode=off",
        ["direction", "variant", "ns/frame", "× off", "goal ≤ 1.01"],
        [[r["direction"], r["variant"],
          f"{r['values'][key]['median']:.0f}", report.ratio(r["ratios"][key]),
          report.verdict(r["ratios"][key], 1.01, False)
          if r["variant"] == "on" else ""] for r in all_rows])
    return all_rows, noises


def answer(connection):
    """Plays a peer that answers each PING at once."""
    with contextlib.suppress(OSError):
        while frame := bytearray(connection.recv(PROBE_BYTES)):
            if frame[TYPE] == PING:
                frame[TYPE] = PONG
                connection.sendall(frame)


def while_idle(options):
    """Wakeups of each thread per interval."""
    intervals = 5 if options.quick else 60
    variant = measure.forwarder("log.level=error", *PEER)
    with resting.idle_programs(variant, 1) as [program]:
        threading.Thread(target=answer, args=[program.connection],
                         daemon=True).start()
        time.sleep(resting.SETTLE_SECONDS)
        before = measure.wakeups(program.process.pid)
        time.sleep(intervals * INTERVAL_S)
        after = measure.wakeups(program.process.pid)
    counts = {name: (after[name] - before[name]) / intervals for name in after}
    report.table(
        f"Idle with probes: wakeups per interval, over {intervals} intervals",
        ["thread", "wakeups"],
        [[name, f"{count:.2f}"] for name, count in counts.items()])
    return {"intervals": intervals, "wakeups_per_interval": counts}
