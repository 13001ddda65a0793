"""A TAP device as the guest: made, taken over, refused with a reason, taken
away, and read in batches."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import Callable, Sequence

from forwarder import Forwarder, expect_refused
from harness import (FORWARDER, Case, Namespace, Process, above, expect,
                     expect_equal, needs, wait_for)
from peers import Child, Connection, FakeDaemon, swallow
from probes import ARP, OTHER_MAC, arp_answer, arp_question, is_type, next_where

GUEST, OTHER = "192.0.2.1", "192.0.2.2"
NO_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
QUESTION = arp_question((OTHER_MAC, OTHER), GUEST)


class Tap(Forwarder):
    """A forwarder in a namespace, with the device vm0 as its guest."""

    def __init__(self, case: Case, host: Namespace, **more) -> None:
        self.host = host
        self.daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
        super().__init__(case, self.daemon.endpoint, "tap:vm0", host=host,
                         **more)
        self.connection: Connection = case.own(self.daemon.accept())

    def address(self) -> None:
        """Adds another host, to which the device's host has a route."""
        self.host.ip("link set vm0 addrgenmode none")
        self.host.ip(f"address add {GUEST}/24 dev vm0")
        self.know_other()

    def know_other(self) -> None:
        self.host.ip(f"neighbor replace {OTHER} lladdr {OTHER_MAC.hex(':')}"
                     " dev vm0")

    def shown(self) -> str:
        return self.host.ip("-o link show dev vm0")

    def mac(self) -> bytes:
        return bytes.fromhex(re.search(r"ether ([\w:]+)", self.shown())
                             .group(1).replace(":", ""))

    def expect_both_ways(self) -> None:
        """The device's own kernel answers a question from the network."""
        expected = arp_answer((self.mac(), GUEST), (OTHER_MAC, OTHER))
        self.connection.send(QUESTION)
        answer = next_where(self.connection,
                            lambda one: is_type(ARP, one) and one[21] == 2)
        expect_equal("answer of the guest", answer[:42], expected[:42])


def with_address(case: Case) -> Tap:
    tap = Tap(case, case.own(Namespace()))
    tap.address()
    tap.expect_both_ways()
    return tap


@needs("namespaces", "tun")
def missing_device_is_created_and_removed_with_the_forwarder(case: Case):
    tap = with_address(case)
    expect("UP" in tap.shown(), "expected it to be up")
    expect_equal("endpoint", tap.value("guest.endpoint"), "tap:vm0")
    tap.until("guest.mac", tap.mac().hex(":"))
    expect_equal("exit status", tap.process.terminate(), 0)
    expect("vm0" not in tap.host.ip("-o link show"), "expected it to be gone")


@needs("namespaces", "tun")
def persistent_device_can_be_attached_again_and_again(case: Case):
    """Also by a user who may not create devices."""
    host = case.own(Namespace())
    host.ip("tuntap add dev vm0 mode tap")
    tap = Tap(case, host)
    expect("UP" not in tap.shown(), "expected it to be left as it was")
    host.ip("link set vm0 up")
    tap.address()
    tap.expect_both_ways()
    index = tap.shown().split(":")[0]
    tap.process.kill()
    tap.daemon.stop()
    again = Tap(case, host, before=NO_CAPABILITIES)
    again.expect_both_ways()
    expect_equal("exit status", again.process.terminate(), 0)
    expect_equal("the device's number", again.shown().split(":")[0], index)


def try_start(case: Case, host: Namespace, name: str, prefix: Sequence = ()
              ) -> subprocess.CompletedProcess:
    """What is expected not to start."""
    return subprocess.run(
        host.enter(*prefix, FORWARDER, "-g", f"tap:{name}",
                   "-n", f"unix:{case.path('net.sock')}"),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=5)


@needs("namespaces", "tun")
def device_that_cannot_be_attached_is_reported_with_the_reason(case: Case):
    host = case.own(Namespace())
    expect_refused(try_start(case, host, "vm0", NO_CAPABILITIES), 71,
                   "error guest: can't open ", "tap:vm0", "not permitted",
                   "ip tuntap add")
    Tap(case, host)
    for name, kind, word in (
            ("vm0", "", "in use"), ("dummy0", "link add {} type bridge",
                                    "single-queue TAP"),
            ("tun0", "tuntap add dev {} mode tun", "single-queue TAP"),
            ("many0", "tuntap add dev {} mode tap multi_queue",
             "single-queue TAP")):
        if kind:
            host.ip(kind.format(name))
        expect_refused(try_start(case, host, name), 71,
                       "error guest: can't open ", f"tap:{name}", word)


# Passes devices on as systemd does. Arguments: for each its name, its flags and
# whether it is deleted then; after --, the program.
INHERIT = """
import fcntl, os, struct, subprocess, sys
end = sys.argv.index("--")
devices, program = sys.argv[1:end], sys.argv[end + 1:]
os.closerange(3, 100)
for device in devices:
    name, flags, deleted = device.split(",")
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", name.encode(),
                                            int(flags, 16)))
    os.set_inheritable(fd, True)
    if deleted:
        subprocess.run(["ip", "link", "delete", name], check=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(devices)),
                  LISTEN_FDNAMES=":".join(["guest"] * len(devices)))
os.execv(program[0], program)
"""
TAP = "1002"  # IFF_TAP | IFF_NO_PI


def passed_on(*devices: str) -> list:
    return [sys.executable, "-c", INHERIT, *devices, "--"]


@needs("namespaces", "tun")
def only_the_inherited_device_that_fits_is_used(case: Case):
    host = case.own(Namespace())
    tap = Tap(case, host, before=passed_on(
        f"vm0,{TAP},deleted", f"vm1,{TAP},", f"vm0,{TAP},"))
    for fd, reason in ((3, "its TAP device was deleted"),
                       (4, "not the device of the guest endpoint")):
        tap.until_line("warn service: inherited descriptor closed "
                       f'fd={fd} name=guest reason="{reason}"')
    tap.until_line("info service: inherited the guest's descriptor")
    expect("UP" not in tap.shown(), "expected it to be left as it was")
    host.ip("link set vm0 up")
    tap.address()
    tap.expect_both_ways()
    expect("vm1" not in host.ip("-o link show"), "expected it to be closed")


@needs("namespaces", "tun")
def inherited_device_with_another_format_is_refused(case: Case):
    host = case.own(Namespace())
    for flags in ("1001", "5002", "1102"):  # TUN, VNET_HDR, MULTI_QUEUE
        done = try_start(case, host, "vm0", passed_on(f"vm0,{flags},"))
        expect_equal("exit status", done.returncode, 71)
        expect("fd=3 name=guest reason=\"not a single-queue TAP device without"
               " headers\"" in done.stderr,
               f"expected a reason, found: {done.stderr}")


@needs("namespaces", "tun")
def device_that_is_deleted_ends_the_forwarder(case: Case):
    """Also while frames come."""
    for busy in (False, True):
        tap = with_address(case.corner(str(busy)))
        if busy:
            case.own(Child(pour_questions, tap.connection))
        tap.host.ip("link delete vm0")
        expect_equal("exit status", tap.process.wait(2), 69)
        if not busy: # else a failed write may have ended it first
            tap.until_line(
                'error guest: can\'t receive error="No such device"')
        tap.until_line("error guest: gone endpoint=tap:vm0")


def pour_questions(tell: Callable, connection: Connection) -> None:
    while True:
        connection.send(arp_question((OTHER_MAC, OTHER), "192.0.2.77"))


@needs("namespaces", "tun")
def device_that_is_set_down_and_up_works_again(case: Case):
    tap = with_address(case)
    for _ in range(3):
        tap.host.ip("link set vm0 down")
        before = sum(tap.value("down.drops").values())

        def counts_a_drop() -> bool:
            tap.connection.send(QUESTION)
            return sum(tap.value("down.drops").values()) > before
        wait_for("frames for a device that is down to be dropped",
                 counts_a_drop)
        tap.host.ip("link set vm0 up")
        tap.know_other()
        tap.expect_both_ways()
    expect_equal("generation", tap.value("network.generation"), 1)


UDP_FLOOD = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    s.sendto(bytes(1400), ("{OTHER}", 9))
"""


@needs("namespaces", "tun", "strace", "trace", "plain-build")
def device_is_read_in_batches_under_load(case: Case):
    """Several frames read for each call that writes."""
    tap = with_address(case)
    case.own(Child(swallow, tap.connection.socket))
    case.own(Process(tap.host.enter(sys.executable, "-c", UDP_FLOOD),
                     case.path("flood.log")))
    tap.until("up.frames", above(10000))
    counts = case.path("strace.txt")
    strace = case.own(Process(
        ["strace", "-c", "-f", "-o", counts, "-e",
         "trace=readv,read,sendmsg,sendto,write", "-p", tap.pid],
        case.path("strace.log")))
    wait_for("strace to be attached",
             lambda: "attached" in strace.log.read_text())
    tap.until("up.frames", above(tap.value("up.frames") + 2000), 20)
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
