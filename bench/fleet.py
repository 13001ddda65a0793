"""Many forwarders on one host, each with a configuration file, a guest and a
control socket, as the instances of a service have."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time

import measure
import report
import resting

# Where no inotify instance is left.
UNWATCHED = ["unshare", "--user", "--map-root-user", "sh", "-c",
             'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"]
OUTAGE_SECONDS = 3  # long enough for the backoff to reach its maximum, 2 s


class Fleet:
    """Each instance has a guest; all have the same network daemon. They are
    connected when the constructor returns."""

    def __init__(self, count, folder, prefix=()):
        self.folder, self.count = folder, count
        self.guests, self.processes, self.connections = [], [], []
        self.path = os.path.join(folder, "net.sock")
        self.listen()
        begin = time.monotonic()
        for number in range(count):
            self.start(f"vm{number}", prefix)
        self.accept_all()
        self.started_s = time.monotonic() - begin

    def start(self, name, prefix):
        home = os.path.join(self.folder, name)
        os.mkdir(home)
        with open(f"{home}.ini", "w", encoding="ascii") as file:
            file.write(f"[guest]\nendpoint = unixgram:{home}/guest.sock\n"
                       f"[network]\nendpoint = unix:{self.path}\n"
                       f"[control]\nsocket = {home}/control.sock\n"
                       "[log]\nlevel = error\n")
        self.processes.append(subprocess.Popen(
            [*prefix, measure.FORWARDER, "-c", f"{home}.ini"],
            stderr=subprocess.DEVNULL))

    def listen(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(20)
        self.listener.bind(self.path)
        self.listener.listen(self.count)

    def accept_all(self):
        """Returns the milliseconds after which each instance was connected."""
        begin, taken = time.monotonic(), []
        for _ in range(self.count):
            self.connections.append(self.listener.accept()[0])
            taken.append(1000 * (time.monotonic() - begin))
        return taken

    def outage(self, seconds):
        """The same, from the end of the outage on."""
        os.unlink(self.path)
        self.listener.close()
        for connection in self.connections:
            connection.close()
        self.connections.clear()
        time.sleep(seconds)
        self.listen()
        return self.accept_all()

    def plug_in_guests(self):
        for number in range(self.count):
            home = os.path.join(self.folder, f"vm{number}")
            guest = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            guest.bind(f"{home}/vm.sock")
            guest.connect(f"{home}/guest.sock")
            guest.send(bytes(60))
            self.guests.append(guest)

    def stop(self):
        """Returns the seconds until all have ended."""
        begin = time.monotonic()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()
        seconds = time.monotonic() - begin
        for thing in (self.listener, *self.connections, *self.guests):
            thing.close()
        return seconds


@contextlib.contextmanager
def running(count, prefix=()):
    folder = tempfile.mkdtemp(prefix="forwarder-bench-")
    fleet = Fleet(count, folder, prefix)
    try:
        yield fleet
    finally:
        fleet.stop()
        shutil.rmtree(folder)


def recovery(fleet, outages):
    """Milliseconds from listen() until an instance is connected."""
    taken = []
    for _ in range(outages):
        time.sleep(resting.SETTLE_SECONDS)  # the connections are proven
        taken += fleet.outage(OUTAGE_SECONDS)
    return measure.distribution(taken)


def status_seconds(fleet):
    begin = time.monotonic()
    subprocess.run([measure.FORWARDER, "status", "--all", "--prometheus",
                    fleet.folder], stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def fleet(options):
    count, outages = 100, 2 if options.quick else 5
    with running(count) as all_of_them:
        all_of_them.plug_in_guests()
        time.sleep(resting.SETTLE_SECONDS)
        pids = [process.pid for process in all_of_them.processes]
        sizes = [measure.memory_kb(pid) for pid in pids]
        result = {
            "count": count,
            "started_s": all_of_them.started_s,
            "pss_kb": sum(size["pss_kb"] for size in sizes),
            "wakeups_per_s": resting.wakeups(pids, 10),
            "status_s": min(status_seconds(all_of_them) for _ in range(10)),
            "recovery_ms": recovery(all_of_them, outages),
            "stopped_s": all_of_them.stop()}
    with running(count, UNWATCHED) as unwatched:
        result["unwatched_recovery_ms"] = recovery(unwatched, outages)
    report.table(f"{count} instances", ["what", "found"], figures(result))
    return result


def figures(result):
    """Rows of what was measured, for people."""
    watched, unwatched = (result[key] for key in (
        "recovery_ms", "unwatched_recovery_ms"))
    return [
        ["from the first start until all are connected",
         f"{result['started_s']:.2f} s"],
        ["memory of all (PSS)", f"{result['pss_kb'] / 1024:.0f} MiB"],
        ["wakeups of all per second, idle", f"{result['wakeups_per_s']:.1f}"],
        ["`forwarder status --all`", f"{1000 * result['status_s']:.0f} ms"],
        ["from `listen()` of their common daemon until one is connected, "
         "median", f"{watched['p50']:.1f} ms"],
        ["the same until the last one is connected, in the slowest of "
         f"{watched['n'] // result['count']} outages",
         f"{watched['max']:.1f} ms"],
        ["the same without inotify, median and slowest",
         f"{unwatched['p50']:.0f} ms and {unwatched['max']:.0f} ms"],
        ["from SIGTERM until all have ended", f"{result['stopped_s']:.2f} s"]]
