"""The cost of idle forwarders: wakeups and memory, of one and of many."""

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

import measure
import report
import speed

# A connection counts as proven after 2 s, the maximum of the backoff. After that
# an idle forwarder has nothing more to do.
SETTLE_SECONDS = 3
SOCKETS = {"datagram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM}


class Idle:
    """A program between a guest and a daemon that send nothing."""

    def __init__(self, variant, folder, number=0, pair=measure.USUAL):
        path = os.path.join(folder, f"net{number}.sock")
        self.guest, theirs = socket.socketpair(
            socket.AF_UNIX, SOCKETS[pair.guest])
        self.listener = socket.socket(socket.AF_UNIX, SOCKETS[pair.network])
        self.listener.bind(path)
        if pair.network == "stream":
            self.listener.listen()
        self.listener.settimeout(10)
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            [a.replace("{fd}", str(fd)).replace("{net}", path)
             for a in variant.arguments()], pass_fds=[fd],
            stderr=subprocess.DEVNULL)
        theirs.close()
        self.connection = self.accept(pair)
        self.path = path

    def accept(self, pair):
        if pair.network == "stream":
            return self.listener.accept()[0]
        self.listener.connect(self.listener.recvfrom(4)[1])  # VFKT
        return self.listener.dup()

    def daemon_leaves(self):
        os.unlink(self.path)
        self.connection.close()
        self.listener.close()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.guest.close()
        self.connection.close()
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


@contextlib.contextmanager
def idle_programs(variant, count, pair=measure.USUAL):
    folder = tempfile.mkdtemp(prefix="forwarder-bench-")
    programs = []
    try:
        for number in range(count):
            programs.append(Idle(variant, folder, number, pair))
        yield programs
    finally:
        for program in programs:
            program.stop()
        shutil.rmtree(folder)


def wakeups(pids, seconds):
    """Wakeups per second of all processes together."""
    def count():
        return sum(measure.wakeups(pid).total() for pid in pids)
    before = count()
    time.sleep(seconds)
    return (count() - before) / seconds


def idle(options):
    seconds = 3 if options.quick else 10
    rows = []
    idlers = [(variant, measure.USUAL)
              for variant in measure.variants(options.variant)
              if variant.name != "floor again"]
    idlers += [(measure.forwarder(name=f"forwarder, {pair.name}", pair=pair),
                pair) for pair in measure.PAIRS]
    for variant, pair in idlers:
        with idle_programs(variant, 1, pair) as programs:
            time.sleep(SETTLE_SECONDS)
            pid = programs[0].process.pid
            row = {"variant": variant.name, "seconds": seconds,
                   "wakeups_per_s": wakeups([pid], seconds),
                   **measure.memory_kb(pid)}
            if variant.name.startswith("forwarder"):
                programs[0].daemon_leaves()
                time.sleep(SETTLE_SECONDS)  # now the backoff is at its maximum
                row["wakeups_per_s_without_daemon"] = wakeups(
                    [pid], seconds)
            rows.append(row)
    report.table(
        f"Idle for {seconds} s",
        ["variant", "wakeups/s", "without daemon", "RSS KiB", "PSS KiB"],
        [[r["variant"], f"{r['wakeups_per_s']:.2f}",
          f"{r['wakeups_per_s_without_daemon']:.2f}"
          if "wakeups_per_s_without_daemon" in r else "",
          r["rss_kb"], r["pss_kb"]] for r in rows])
    return {"rows": rows}


def busy(variant, options):
    """Frames per second and CPU ns per frame of one program under load."""
    player = measure.load([variant], 1514, "up", 10, options.window)[
        "players"][0]
    return (statistics.median(player["frames_per_s"]),
            statistics.median(player["cpu_ns_per_frame"]))


def links(options):
    variant = measure.forwarder("log.level=error")
    repeats = 2 if options.quick else 8
    rows = []
    for count in (1, 10) if options.quick else (1, 10, 50, 100):
        frames, cpu = [], []
        for _ in range(repeats):
            alone = busy(variant, options)
            with idle_programs(variant, count - 1):
                crowded = busy(variant, options)
            frames.append(crowded[0] / alone[0])
            cpu.append(crowded[1] / alone[1])
        with idle_programs(variant, count) as programs:
            time.sleep(SETTLE_SECONDS)
            pids = [program.process.pid for program in programs]
            per_second = wakeups(pids, 3 if options.quick else 10)
            sizes = [measure.memory_kb(pid) for pid in pids]
        rows.append({
            "links": count, "wakeups_per_s": per_second,
            "rss_kb": sum(s["rss_kb"] for s in sizes),
            "pss_kb": sum(s["pss_kb"] for s in sizes),
            "busy_frames_ratio": measure.spread(frames),
            "busy_cpu_ratio": measure.spread(cpu)})
    report.table(
        f"Many links ({variant.name}): all idle, then one of them busy",
        ["links", "RSS KiB", "PSS KiB", "wakeups/s", "busy link: × alone",
         "ns/frame: × alone"],
        [[r["links"], r["rss_kb"], r["pss_kb"], f"{r['wakeups_per_s']:.2f}",
          report.ratio(r["busy_frames_ratio"]),
          report.ratio(r["busy_cpu_ratio"])] for r in rows])
    return {"rows": rows}


def memory(options):
    """The largest frames of every pair, and all sizes of the usual one."""
    frames = options.frames
    loads = [(measure.USUAL, size) for size in options.sizes or speed.SIZES]
    loads += [(pair, speed.SIZES[-1]) for pair in measure.PAIRS]
    rows = []
    for pair, size in loads:
        program = measure.forwarder("log.level=error", pair=pair)
        count = frames if pair is measure.USUAL else frames // 10
        for direction in ("up", "down"):
            result = measure.load([program], size, direction, 1, 0,
                                  *pair.options, "-f", count)
            player = result["players"][0]
            rows.append({"pair": pair.name, "size": size,
                         "direction": direction, "variant": program.name,
                         "frames": count, **{k: player[k] for k in (
                             "rss_start_kb", "rss_kb", "rss_peak_kb")}})
    report.table(
        f"Resident memory after {frames} frames, KiB",
        ["pair", "frames", "start", "after", "peak", "goal ≤ 4 MiB"],
        [[r["pair"], report.label(r["size"], r["direction"]),
          r["rss_start_kb"], r["rss_kb"], r["rss_peak_kb"],
          "reached" if r["rss_peak_kb"] <= 4096 else "missed"] for r in rows])
    return {"rows": rows}
