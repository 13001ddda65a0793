"""A TAP device as the guest: made, taken over, refused with a reason, taken
away, and read in batches."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import Callable, Sequence

from harness import (FORWARDER, Case, Namespace, Process, expect, expect_equal,
                     needs, wait_for)
from netns import ForwarderIn
from peers import Child, Connection, FakeDaemon, run_as_nobody, swallow
from probes import (ARP, arp_answer, arp_question, is_type, next_where)

GUEST, OTHER = "192.0.2.1", "192.0.2.2"
OTHER_MAC = bytes.fromhex("525400000001")
TUN = "/dev/net/tun"
NO_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]


class Tap:
    """A forwarder in a namespace, with the device vm0 as its guest."""

    def __init__(self, case: Case, host: Namespace) -> None:
        self.case, self.host = case, host
        self.daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
        self.forwarder = case.own(ForwarderIn(
            host, case.folder, self.daemon.endpoint, "tap:vm0"))
        self.connection: Connection = case.own(self.daemon.accept())

    def address(self) -> None:
        """A host at the other end, which the device's knows the way to."""
        self.host.ip("link set vm0 addrgenmode none")
        self.host.ip(f"address add {GUEST}/24 dev vm0")
        self.host.ip(f"neighbor add {OTHER} lladdr {OTHER_MAC.hex(':')}"
                     " dev vm0")

    def mac(self) -> bytes:
        shown = self.host.ip("-o link show dev vm0")
        return bytes.fromhex(re.search(r"ether ([\w:]+)", shown).group(1)
                             .replace(":", ""))

    def expect_both_ways(self) -> None:
        """The device's own kernel answers a question from the network."""
        question = arp_question((OTHER_MAC, OTHER), GUEST)
        expected = arp_answer((self.mac(), GUEST), (OTHER_MAC, OTHER))

        def answered() -> bytes:
            self.connection.send(question)
            return next_where(self.connection,
                              lambda one: is_type(ARP, one) and one[21] == 2)
        expect_equal("answer of the guest", answered()[:42], expected[:42])


def try_start(case: Case, host: Namespace, prefix: Sequence = (),
              name: str = "vm0", **options) -> subprocess.CompletedProcess:
    """What is expected not to start."""
    return subprocess.run(
        host.enter(*prefix, FORWARDER, "-g", f"tap:{name}",
                   "-n", f"unix:{case.path('net.sock')}"),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5,
        **options)


def expect_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    print(f"    {done.stderr.strip()}")
    expect_equal("exit status", done.returncode, 71)
    expect_equal("lines", len(done.stderr.strip().splitlines()), 1)
    for word in ("error guest: can't open ", *words):
        expect(word in done.stderr, f"expected {word!r} in: {done.stderr}")


@needs("namespaces", "tun")
def device_that_is_absent_is_made_and_goes_with_the_forwarder(case: Case):
    host = case.own(Namespace())
    tap = Tap(case, host)
    expect("UP" in host.ip("-o link show dev vm0"), "expected it to be up")
    tap.address()
    tap.expect_both_ways()
    status = tap.forwarder.status()["guest"]
    expect_equal("endpoint", status["endpoint"], "tap:vm0")
    expect_equal("MAC", status["mac"], tap.mac().hex(":"))
    expect_equal("exit status", tap.forwarder.stop(5), 0)
    expect("vm0" not in host.ip("-o link show"), "expected it to be gone")


@needs("namespaces", "tun")
def persistent_device_is_taken_over_again_and_again(case: Case):
    """Also by somebody who may make none."""
    host = case.own(Namespace())
    host.ip("tuntap add dev vm0 mode tap")
    host.ip("link set vm0 up")
    tap = Tap(case, host)
    tap.address()
    tap.expect_both_ways()
    index = host.ip("-o link show dev vm0").split(":")[0]
    tap.forwarder.process.kill()
    again = Process(host.enter(*NO_CAPABILITIES, FORWARDER, "-g", "tap:vm0",
                               "-n", tap.daemon.endpoint),
                    case.path("again.log"))
    case.own(again)
    tap.connection = case.own(tap.daemon.accept())
    tap.expect_both_ways()
    expect_equal("exit status", again.terminate(), 0)
    expect_equal("the device's number",
                 host.ip("-o link show dev vm0").split(":")[0], index)


@needs("namespaces", "tun")
def device_that_cannot_be_had_is_told_with_the_reason(case: Case):
    host = case.own(Namespace())
    expect_refused(try_start(case, host, NO_CAPABILITIES), "tap:vm0",
                   "not permitted", "ip tuntap add")
    Tap(case, host)
    expect_refused(try_start(case, host), "tap:vm0", "in use")
    host.ip("link add dummy0 type bridge")
    expect_refused(try_start(case, host, name="dummy0"), "tap:dummy0",
                   "no TAP")
    host.ip("tuntap add dev tun0 mode tun")
    expect_refused(try_start(case, host, name="tun0"), "tap:tun0", "no TAP")
    host.ip("tuntap add dev many0 mode tap multi_queue")
    expect_refused(try_start(case, host, name="many0"), "tap:many0",
                   "multi-queue")


@needs("root")
def nobody_is_told_that_a_device_is_not_permitted(case: Case):
    """Whichever of the two forbids it: the file, or the kernel."""
    done = run_as_nobody(case, "-g", "tap:vm0",
                         "-n", f"unix:{case.path('net.sock')}")
    expect_refused(done, "ermi")
    expect(TUN in done.stderr or "tap:vm0" in done.stderr, done.stderr)


@needs("namespaces", "tun")
def device_that_is_deleted_ends_the_forwarder(case: Case):
    host = case.own(Namespace())
    tap = Tap(case, host)
    host.ip("link delete vm0")
    expect_equal("exit status", tap.forwarder.process.wait(2), 69)
    log = tap.forwarder.log_text()
    expect("error guest: gone endpoint=tap:vm0" in log, "expected it told")


@needs("namespaces", "tun")
def device_that_is_deleted_while_frames_come_ends_the_forwarder(case: Case):
    host = case.own(Namespace())
    tap = Tap(case, host)
    tap.address()
    tap.expect_both_ways()
    case.own(Child(pour_questions, tap.connection))
    host.ip("link delete vm0")
    expect_equal("exit status", tap.forwarder.process.wait(2), 69)


def pour_questions(tell: Callable, connection: Connection) -> None:
    while True:
        connection.send(arp_question((OTHER_MAC, OTHER), "192.0.2.77"))


@needs("namespaces", "tun")
def device_that_is_taken_down_comes_back(case: Case):
    host = case.own(Namespace())
    tap = Tap(case, host)
    tap.address()
    tap.expect_both_ways()
    for _ in range(3):
        host.ip("link set vm0 down")
        question = arp_question((OTHER_MAC, OTHER), GUEST)
        dropped = tap.forwarder.status()["network_to_guest"]["drops"]
        before = sum(dropped.values())

        def counts_a_drop() -> bool:
            tap.connection.send(question)
            drops = tap.forwarder.status()["network_to_guest"]["drops"]
            return sum(drops.values()) > before
        wait_for("frames for a device that is down to be dropped",
                 counts_a_drop)
        expect(tap.forwarder.process.alive(), "expected it to wait")
        host.ip("link set vm0 up")
        host.ip(f"neighbor replace {OTHER} lladdr {OTHER_MAC.hex(':')}"
                " dev vm0")
        tap.expect_both_ways()
    expect_equal("generation",
                 tap.forwarder.status()["network"]["generation"], 1)


UDP_FLOOD = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(bytes(1400), ("{OTHER}", 9))
"""


@needs("namespaces", "tun", "strace", "trace",
       "plain-build")
def device_is_read_in_batches_under_load(case: Case):
    """Several frames read for each call that writes."""
    host = case.own(Namespace())
    tap = Tap(case, host)
    tap.address()
    tap.expect_both_ways()
    case.own(Child(swallow, tap.connection.socket))
    case.own(Process(host.enter(sys.executable, "-c", UDP_FLOOD),
                     case.path("flood.log")))

    def frames() -> int:
        return tap.forwarder.status()["guest_to_network"]["frames"]
    wait_for("load", lambda: frames() > 10000)
    counts = case.path("strace.txt")
    strace = Process(["strace", "-c", "-f", "-o", counts, "-e",
                      "trace=readv,read,sendmsg,sendto,write",
                      "-p", tap.forwarder.process.pid], case.path("strace.log"))
    case.own(strace)
    wait_for("strace to be attached",
             lambda: "attached" in strace.log.read_text())
    before = frames()
    wait_for("frames under strace", lambda: frames() > before + 2000, 20)
    strace.signal(signal.SIGINT)
    strace.wait()
    calls = {line.split()[-1]: int(line.split()[3])
             for line in counts.read_text().splitlines()
             if re.match(r"\s*\d", line) and "total" not in line}
    print(f"    {calls}")
    reads = calls.get("readv", 0) + calls.get("read", 0)
    writes = calls.get("sendmsg", 0)
    expect(reads >= 4 * writes > 0,
           f"expected four reads for a write, found {calls}")
