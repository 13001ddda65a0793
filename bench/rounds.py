"""Compares several setups with iperf3 and ping: each round measures all of them
in turn, and the results are ratios to one of them."""

import argparse
import collections
import json
import os
import re
import statistics
import sys

import measure
import report

sys.path.insert(0, os.path.join(measure.ROOT, "tests", "integration"))
import harness  # noqa: E402
import vm  # noqa: E402

FLAGS = {"up": [], "down": ["--reverse"], "both": ["--bidir"]}


class Setup:
    """Two ends, the processes between them (`middle`), and an iperf3 server at
    one end."""

    def __init__(self, name):
        self.name = name
        self.middle = []
        self.server = None

    def client(self, arguments, seconds):
        """Runs an iperf3 client and returns its output."""
        raise NotImplementedError

    def ping(self, count):
        """Sends that many pings and returns the output."""
        raise NotImplementedError

    def cpu_ns(self):
        return sum(map(measure.cpu_ns, self.middle))

    def measure(self, direction, seconds):
        """Mbit/s at the receivers, and CPU seconds of the middle per Gbit."""
        self.server.wait_until_free()
        before = self.cpu_ns()
        text = self.client(["--time", str(seconds), "--json",
                            *FLAGS[direction]], seconds)
        used_ns = self.cpu_ns() - before
        error = json.loads(text).get("error")
        harness.expect(not error, f"iperf3 through {self.name}: {error}")
        bits = vm.received_bytes(text) * 8
        return bits / 1e6 / seconds, used_ns / bits

    def round_trip(self):
        """The median round-trip time in ms."""
        times = re.findall(r"time=([\d.]+) ms", self.ping(50))
        return statistics.median(map(float, times))


def busybox_ping(namespace, address, count):
    return namespace.run("busybox", "ping", "-c", count, "-i", "0.02", address)


def bench(options, setups, directions, base):
    """Measures all setups in alternating order: a row per setup, with its
    ratios to the setup `base`."""
    series = {s.name: collections.defaultdict(list) for s in setups}
    for number in range(options.rounds):
        first = number % len(setups)
        for setup in setups[first:] + setups[:first]:
            mine = series[setup.name]
            for direction in directions:
                mbit_per_s, cpu = setup.measure(direction, options.seconds)
                mine[direction].append(mbit_per_s)
                mine[direction + "_cpu"].append(cpu)
            mine["ping"].append(setup.round_trip())
            speeds = ", ".join(f"{mine[d][-1]:.0f} {d}" for d in directions)
            print(f"  round {number + 1} {setup.name}: {speeds} Mbit/s, "
                  f"ping {mine['ping'][-1]:.3f} ms", flush=True)
    return [{"variant": name, **{
        key: {"value": measure.spread(mine[key]),
              "ratio": measure.ratios(mine[key], series[base][key])}
        for key in (*directions, "ping")}, **{
        key: measure.spread(mine[key])
        for key in (d + "_cpu" for d in directions)}}
        for name, mine in series.items()]


def show(title, rows, directions, base):
    head = ["between"]
    for direction in directions:
        head += [f"{direction} Mbit/s", f"× {base}", "CPU s/Gbit"]
    head += ["ping ms", f"× {base}"]
    lines = []
    for row in rows:
        line = [row["variant"]]
        for direction in directions:
            line += [f"{row[direction]['value']['median']:.0f}",
                     report.ratio(row[direction]["ratio"]),
                     f"{row[direction + '_cpu']['median']:.3f}"]
        line += [f"{row['ping']['value']['median']:.3f}",
                 report.ratio(row["ping"]["ratio"])]
        lines.append(line)
    report.table(title, head, lines)


def parser(description):
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true")
    made.add_argument("--rounds", type=int, help="rounds (8)")
    made.add_argument("--seconds", type=int, help="duration of each iperf3 run (3)")
    made.add_argument("--results", metavar="FOLDER",
                      help="write here instead of bench/results")
    return made


def parse(made):
    options = made.parse_args()
    if options.results:
        report.RESULTS = options.results
    options.rounds = options.rounds or (2 if options.quick else 8)
    options.seconds = options.seconds or (1 if options.quick else 3)
    return options
