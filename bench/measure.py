"""Runs the measuring tools and evaluates their output: each figure is divided by
the floor's figure in the same cycle of slices; the result is the median."""

import collections
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import time

BENCH = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(BENCH)
TOOLS = os.path.join(ROOT, "build", "bench")
FORWARDER = os.environ.get("FORWARDER", os.path.join(ROOT, "build/forwarder"))

# Figures are noisy if the two floors differ by more than this, or if others used
# more than this of the CPU.
NOISY_FLOOR = 0.03
NOISY_PERCENT = 3.0

QEMU_HUB = (
    "qemu-system-x86_64 -machine none -nodefaults -display none"
    " -netdev dgram,id=a,local.type=fd,local.str={fd}"
    " -netdev stream,id=b,server=off,addr.type=unix,addr.path={net}"
    " -netdev hubport,id=p0,hubid=0,netdev=a"
    " -netdev hubport,id=p1,hubid=0,netdev=b"
)


class Variant:
    """A program to measure. {size} in its command is the length of the frames."""

    def __init__(self, name, command):
        self.name = name
        self.command = command

    def arguments(self, size=1514):
        return self.command.replace("{size}", str(size)).split()


class Pair:
    """The kinds of socket of the guest and of the network."""

    def __init__(self, guest, network):
        self.guest = guest
        self.network = network
        self.name = f"{guest} guest, {network} network"
        self.ends = " -g fd:{fd} -n " + (
            "unix:{net}" if network == "stream" else "unixgram:{net}")
        # of the tool `load`
        self.options = (["-G"] if guest == "stream" else []) + (
            ["-N"] if network == "datagram" else [])


USUAL = Pair("datagram", "stream")
PAIRS = (Pair("datagram", "datagram"), Pair("stream", "stream"),
         Pair("stream", "datagram"))


def forwarder(*options, name="forwarder", pair=USUAL):
    """The forwarder with these options SECTION.KEY=VALUE."""
    return Variant(name, FORWARDER + pair.ends + "".join(
        f" -o {option}" for option in options))


def variants(extra=(), pair=USUAL):
    """The programs that this machine has; the floor first, and again later."""
    floor = os.path.join(TOOLS, "floor") + pair.ends + " -s {size}"
    found = [Variant("floor", floor),
             forwarder("log.level=error", pair=pair)]
    found += [Variant(*text.replace("{ends}", pair.ends).split("=", 1))
              for text in extra]
    found.append(Variant("floor again", floor))
    found.append(Variant("naive", os.path.join(TOOLS, "naive") + pair.ends))
    if pair is USUAL and shutil.which("qemu-system-x86_64"):
        found.append(Variant("qemu-hub", QEMU_HUB))
    return found


def build():
    subprocess.run(["make", "-s", "-C", BENCH], check=True)


def tool(name, *arguments, timeout=1200):
    """Runs a tool and returns the JSON that it prints."""
    command = [os.path.join(TOOLS, name), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def load(programs, size, direction, cycles, window_ms, *options):
    """One round: starts all programs and loads each for `cycles` slices."""
    arguments = ["-s", size, "-d", direction, "-k", cycles, "-t", window_ms]
    arguments += options
    for program in programs:
        arguments += ["--", *program.arguments(size)]
    return tool("load", *arguments)


def spread(values):
    """Median, quartiles, and the 95 % confidence interval of the median."""
    ordered = sorted(values)
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    low = max(0, math.floor(n / 2 - reach))
    high = min(n - 1, math.ceil(n / 2 + reach))
    if n > 1:
        q1, _, q3 = statistics.quantiles(ordered, n=4)
    else:
        q1 = q3 = ordered[0]
    return {"median": statistics.median(ordered), "q1": q1, "q3": q3,
            "low": ordered[low], "high": ordered[high], "n": n}


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def distribution(values):
    return {"n": len(values), "min": min(values), "max": max(values),
            **{f"p{name}": percentile(values, part) for name, part in
               (("50", .5), ("90", .9), ("99", .99), ("999", .999))}}


def ratios(values, floor):
    return spread([a / b for a, b in zip(values, floor) if b > 0 and a > 0]
                  or [0.0])


def compare(programs, size, direction, rounds, cycles, window_ms, keys,
            pair=USUAL):
    """Measures one size and direction: a row per variant, and the noise."""
    series = {p.name: {key: [] for key in keys} for p in programs}
    noise = {"steal_percent": [], "others_percent": []}
    extra = {p.name: {"lost": 0, "rss_peak_kb": 0} for p in programs}
    for _ in range(rounds):
        result = load(programs, size, direction, cycles, window_ms,
                      *pair.options)
        for key, values in noise.items():
            values.append(result[key])
        for program, player in zip(programs, result["players"]):
            for key in keys:
                series[program.name][key] += player[key]
            mine = extra[program.name]
            mine["lost"] += player["lost"]
            mine["rss_peak_kb"] = max(
                mine["rss_peak_kb"], player["rss_peak_kb"])
    floor = series[programs[0].name]
    rows = []
    for program in programs:
        mine = series[program.name]
        rows.append({
            "size": size, "direction": direction, "variant": program.name,
            **extra[program.name],
            "values": {key: spread(mine[key]) for key in keys},
            "ratios": {key: ratios(mine[key], floor[key]) for key in keys},
        })
    return rows, {key: statistics.mean(v) for key, v in noise.items()}


def is_noisy(rows, noise, key):
    """The reasons why the rows are unreliable, if any."""
    reasons = []
    for row in rows:
        off = abs(row["ratios"][key]["median"] - 1)
        if row["variant"] == "floor again" and off > NOISY_FLOOR:
            reasons.append(f"floor against itself is {off:.0%} off")
    for what, percent in noise.items():
        if percent > NOISY_PERCENT:
            reasons.append(f"{what.split('_')[0]} {percent:.0f} %")
    return reasons


class Machine:
    """CPU time that others used since the object was made, in percent."""

    def __init__(self):
        self.begin = self._look()

    @staticmethod
    def _look():
        """Seconds so far: total, busy, stolen, used by us."""
        tick = os.sysconf("SC_CLK_TCK")
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, wait, irq, soft, steal = (
                int(text) / tick for text in file.readline().split()[1:9])
        own = sum(os.times()[:4])  # includes children that have ended
        busy = user + nice + system + irq + soft
        return busy + idle + wait + steal, busy, steal, own

    def noise(self):
        everything, busy, steal, own = (
            b - a for a, b in zip(self.begin, self._look()))
        return {"steal_percent": 100 * steal / everything,
                "others_percent": 100 * max(0, busy - own) / everything}


# One process, as seen in /proc.

def read_proc(pid, name):
    with open(f"/proc/{pid}/{name}", encoding="ascii") as file:
        return file.read()


def memory_kb(pid):
    status = read_proc(pid, "status")
    rollup = read_proc(pid, "smaps_rollup")
    return {"rss_kb": int(re.search(r"VmRSS:\s+(\d+)", status)[1]),
            "pss_kb": int(re.search(r"^Pss:\s+(\d+)", rollup, re.M)[1])}


def wakeups(pid):
    """How often each thread, by name, has gone to sleep so far."""
    counts = collections.Counter()
    for thread in os.listdir(f"/proc/{pid}/task"):
        name = read_proc(pid, f"task/{thread}/comm").strip()
        slept = re.search(r"^voluntary_ctxt_switches:\s+(\d+)",
                          read_proc(pid, f"task/{thread}/status"), re.M)
        counts[name] += int(slept[1])
    return counts


def cpu_ns(pid):
    return sum(int(read_proc(pid, f"task/{thread}/schedstat").split()[0])
               for thread in os.listdir(f"/proc/{pid}/task"))


def first_line(*command):
    try:
        text = subprocess.run(command, capture_output=True, text=True,
                              timeout=10).stdout
    except OSError:
        return "none"
    return text.splitlines()[0] if text else "none"


def state(command):
    """What a reader needs to judge the figures or to reproduce them."""
    cpu = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    return {
        "command": command,
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
        "machine": f"{cpu[1] if cpu else platform.machine()}, "
                   f"{os.cpu_count()} processors",
        "hypervisor": first_line("systemd-detect-virt"),
        "memory_kb": int(re.search(
            r"MemTotal:\s+(\d+)", open("/proc/meminfo").read())[1]),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "compiler": first_line("cc", "--version"),
        "qemu": first_line("qemu-system-x86_64", "--version"),
        "forwarder": first_line(FORWARDER, "--version"),
        "commit": first_line("git", "-C", ROOT, "describe", "--always",
                             "--dirty"),
        "load_average": os.getloadavg()[0],
    }
