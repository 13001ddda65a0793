"""What it costs: memory, descriptors, wakeups, system calls; and that a full
disk or a missing standard error cost nothing."""

from __future__ import annotations

import os
import re
import socket
import time
from typing import Callable

from forwarder import ask_status, command_line
from harness import Case, Process, expect, expect_equal, needs, wait_for
from peers import (Bridge, Child, Connection, FakeDaemon, FakeGuest,
                   context_switches, descriptors, flood, frame, framed,
                   guest_on_path, number_of, pour, resident_kib, swallow)

UP, DOWN = "guest_to_network", "network_to_guest"
RESIDENT_KIB = 4096
SPREAD_KIB = 64
SIZES = [60, 1514, 9000, 32000, 65000]


def reconnect(bridge: Bridge, connection: Connection, times: int
              ) -> Connection:
    """Frames of every size through each generation; the last one is up."""
    for number in range(times):
        connection.close()
        connection = bridge.daemon.accept()
        size = SIZES[number % len(SIZES)]
        bridge.guest.send(frame(number, size))
        expect_equal("frame out", number_of(connection.next()), number)
        connection.send(frame(number, size))
        expect_equal("frame in", number_of(bridge.guest.receive()), number)
    return connection


@needs("plain-build")
def three_hundred_reconnects_leave_descriptors_and_memory_as_they_were(
        case: Case):
    bridge = Bridge(case, ["log.level=error", "network.hold=1m"])
    connection = reconnect(bridge, bridge.meet(), 50)
    before = resident_kib(bridge.pid), descriptors(bridge.pid)
    case.own(reconnect(bridge, connection, 250))
    after = resident_kib(bridge.pid), descriptors(bridge.pid)
    print(f"        {after[0]} KiB, {after[1]} descriptors")
    expect(after[0] <= RESIDENT_KIB, f"expected {RESIDENT_KIB} KiB at most,"
                                     f" found {after[0]}")
    expect(after[0] - before[0] <= SPREAD_KIB,
           f"expected memory to stay, found {before[0]} and {after[0]} KiB")
    expect_equal("descriptors", after[1], before[1])
    expect_equal("outages", bridge.status()["network"]["outages"], 300)


@needs("plain-build", limit=240)
def memory_stays_small_under_load_of_any_size(case: Case):
    bridge = Bridge(case, ["log.level=error", "guest.stall=1s"])
    connection = bridge.meet()
    case.own(Child(swallow, connection.socket))
    case.own(Child(read_guest, bridge.guest))
    seen = []
    for sizes in ([60], [1514], [6000], [65000], SIZES, [60]):
        before = bridge.status()
        senders = [case.own(Child(flood, bridge.guest, 1000000, sizes)),
                   case.own(Child(pour, connection, sizes[-1]))]
        wait_for("traffic both ways", lambda: all(
            bridge.status()[way]["frames"] - before[way]["frames"] > 3000
            for way in (UP, DOWN)), 40)
        seen.append(resident_kib(bridge.pid))
        for sender in senders:
            sender.kill()
        wait_until_quiet(bridge)
        connection = renew(case, bridge, connection)
        case.own(Child(swallow, connection.socket))
    print(f"        {seen} KiB")
    expect(max(seen) <= RESIDENT_KIB,
           f"expected {RESIDENT_KIB} KiB at most, found {seen}")


def renew(case: Case, bridge: Bridge, connection: Connection) -> Connection:
    """A killed sender may have left half a frame in the stream."""
    generation = bridge.status()["network"]["generation"]
    connection.socket.shutdown(2)
    connection.close()
    wait_for("the next generation", lambda: bridge.status()
             ["network"]["generation"] > generation)
    return bridge.accept()


def wait_until_quiet(bridge: Bridge) -> None:
    def quiet() -> bool:
        before = bridge.status()
        time.sleep(0.05)
        after = bridge.status()
        return all(before[way]["frames"] == after[way]["frames"]
                   for way in (UP, DOWN))
    wait_for("traffic to end", quiet)


def read_guest(tell: Callable, guest: FakeGuest) -> None:
    guest.socket.settimeout(None)
    while True:
        guest.socket.recv(131072)


@needs("plain-build")
def nothing_wakes_up_when_nothing_happens(case: Case):
    """Two seconds are waited for, as time is what is measured."""
    bridge = Bridge(case, ["reconnect.max=200ms"])
    connection = bridge.meet()
    expect_no_wakeups(bridge)
    connection.close()
    bridge.meet()
    expect_no_wakeups(bridge)


def expect_no_wakeups(bridge: Bridge) -> None:
    wait_for("all threads to come to rest", lambda: wakeups(bridge, 0.5) == 0)
    expect_equal("wakeups in two seconds", wakeups(bridge, 2), 0)


def wakeups(bridge: Bridge, seconds: float) -> int:
    before = context_switches(bridge.pid)
    time.sleep(seconds)
    return context_switches(bridge.pid) - before


@needs("plain-build")
def guest_that_is_gone_or_silent_wakes_nobody_in_vain(case: Case):
    """What goes on in the folders of both sockets is nobody's business."""
    bridge = Bridge(case, ["reconnect.max=200ms"])
    bridge.meet()
    expect_no_wakeups(bridge)
    before = context_switches(bridge.pid)
    for number in range(50):
        case.path(f"file{number}").write_text("x")
        case.path(f"file{number}").unlink()
    expect_equal("wakeups by strange files",
                 context_switches(bridge.pid) - before, 0)


@needs("plain-build")
def frame_wakes_only_the_thread_that_carries_it(case: Case):
    """Some kernels wake readers for room as well as for bytes."""
    bridge = Bridge(case)
    connection = bridge.meet()
    expect_no_wakeups_by_frames_out(bridge, connection)
    for number in range(20):  # an answer to each: it may wait in recv() now
        send_out(bridge, connection, 1)
        connection.send(frame(number))
        expect_equal("frame in", number_of(bridge.guest.receive()), number)
    send_out(bridge, connection, 20)
    connection.send(frame(1))
    expect_equal("frame in", number_of(bridge.guest.receive()), 1)
    expect_no_wakeups_by_frames_out(bridge, connection)


def send_out(bridge: Bridge, connection: Connection, count: int) -> None:
    for number in range(count):
        bridge.guest.send(frame(number))
        expect_equal("frame out", number_of(connection.next()), number)


def expect_no_wakeups_by_frames_out(
        bridge: Bridge, connection: Connection) -> None:
    before = context_switches(bridge.pid, "fwd-down")
    send_out(bridge, connection, 200)
    woken = context_switches(bridge.pid, "fwd-down") - before
    # It may just have been on its way to sleep.
    expect(woken <= 2, f"expected fwd-down to sleep on, it woke {woken} times")


# --- system calls -------------------------------------------------------------

class Traced:
    """A forwarder whose system calls are counted."""

    def __init__(self, case: Case) -> None:
        self.daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
        self.control = case.path("control.sock")
        self.calls = case.path("calls")
        guest = case.path("guest.sock")
        self.process = case.own(Process(
            ["strace", "-D", "-f", "-c", "-o", self.calls,
             *command_line(self.control, self.daemon.endpoint,
                           f"unixgram:{guest}",
                           ["log.level=error", "guest.stall=1s"])],
            case.path("forwarder.log")))
        self.connection = case.own(self.daemon.accept())
        wait_for("the control socket", lambda: ask_status(self.control))
        self.guest = case.own(guest_on_path(case.path("vm.sock"), guest))
        self.guest.send(frame(0))
        self.connection.next()

    def calls_per_frame(self, direction: str) -> float:
        frames = ask_status(self.control)[direction]["frames"]
        self.process.terminate(5)
        total = wait_for("the count of system calls",
                         lambda: re.search(r"(\d+)\s+(\d+\s+)?total",
                                           self.calls.read_text()))
        return int(total.group(1)) / frames


BYTES = 50000 * 1514


def hammer(tell: Callable, guest: FakeGuest) -> None:
    """The same frame again, faster than different ones."""
    guest.socket.settimeout(None)
    send, one = guest.socket.send, frame(1, 1514)
    while True:
        send(one)


def hammer_stream(tell: Callable, connection: Connection) -> None:
    connection.socket.settimeout(None)
    many = framed(*[frame(1, 1514)] * 100)
    while True:
        connection.send_bytes(many)


def read_bytes(tell: Callable, reader: socket.socket, count: int,
               pause: float = 0) -> None:
    """Reads for ever, and tells when so many bytes have come."""
    reader.settimeout(None)
    while count > 0:
        count -= len(reader.recv(262144))
        if pause:
            time.sleep(pause)
    tell(b"enough")
    while reader.recv(262144):
        pass


def calls_to_network(case: Case) -> float:
    """Load is when the forwarder is what frames wait for: so the daemon is
    made slower than it."""
    traced = Traced(case)
    reader = case.own(Child(read_bytes, traced.connection.socket, BYTES,
                            0.003))
    case.own(Child(hammer, traced.guest))
    wait_for("the frames", reader.hear, 30)
    return traced.calls_per_frame(UP)


def calls_to_guest(case: Case) -> float:
    traced = Traced(case)
    reader = case.own(Child(read_bytes, traced.guest.socket, BYTES))
    case.own(Child(hammer_stream, traced.connection))
    wait_for("the frames", reader.hear, 30)
    return traced.calls_per_frame(DOWN)


def expect_few_calls(measure: Callable[[Case], float]) -> None:
    """Whoever else uses the processor starves the load, and with it the
    batches: the best of six counts."""
    found: list[float] = []
    while not found or min(found) > 0.1:
        expect(len(found) < 6, "expected 0.1 system calls a frame at most,"
                               f" found {found}")
        one = Case()
        try:
            found.append(round(measure(one), 3))
        finally:
            one.close()
        print(f"        {found[-1]} system calls a frame")


@needs("plain-build", "strace", "trace")
def guest_to_network_takes_a_tenth_of_a_system_call_a_frame(case: Case):
    expect_few_calls(calls_to_network)


@needs("plain-build", "strace", "trace")
def network_to_guest_takes_a_tenth_of_a_system_call_a_frame(case: Case):
    expect_few_calls(calls_to_guest)


# --- standard error -----------------------------------------------------------

def start_without_log(case: Case, redirection: str, **options) -> tuple:
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    control, guest = case.path("control.sock"), case.path("guest.sock")
    process = case.own(Process(
        ["sh", "-c", f'exec "$@" {redirection}', "sh",
         *command_line(control, daemon.endpoint, f"unixgram:{guest}")],
        case.path("forwarder.log"), **options))
    connection = case.own(daemon.accept())
    wait_for("the control socket", lambda: ask_status(control))
    return process, daemon, connection, case.own(
        guest_on_path(case.path("vm.sock"), guest))


@needs()
def log_that_goes_nowhere_does_no_harm(case: Case):
    """A full disk; standard error closed, alone or with the other two: no
    descriptor of ours may take its number, and a log line for a frame."""
    for redirection in ("2>/dev/full", "2>&-", "0<&- 2>&-", "0<&- 1>&- 2>&-",
                        "1>&- 2>&-"):
        one = Case()
        try:
            expect_service_without_log(one, redirection)
        finally:
            one.close()


def expect_service_without_log(case: Case, redirection: str) -> None:
    process, daemon, connection, guest = start_without_log(case, redirection)
    for number in range(1, 6):
        guest.send(frame(number))
        expect_equal(f"frame out, with {redirection}",
                     number_of(connection.next()), number)
        connection.send(frame(number))
        expect_equal("frame in", number_of(guest.receive()), number)
        connection.close()
        connection = case.own(daemon.accept())
    expect(process.alive(), f"expected it to live with {redirection}")
    expect_equal("exit status", process.terminate(1), 0)


@needs()
def log_that_nobody_reads_does_not_hold_up_the_traffic(case: Case):
    """A pipe that is full: lines are lost, frames are not."""
    unread, full = os.pipe()
    fill(full)
    process, daemon, connection, guest = start_without_log(
        case, f"2>&{full}", pass_fds=[full])
    os.close(full)
    for number in range(1, 101):
        guest.send(frame(number))
        expect_equal("frame out", number_of(connection.next()), number)
        connection.send(frame(number))
        expect_equal("frame in", number_of(guest.receive()), number)
        connection.close()
        connection = case.own(daemon.accept())
    expect_equal("exit status", process.terminate(1), 0)
    os.close(unread)


def fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, bytes(4096))
    except BlockingIOError:
        os.set_blocking(pipe, True)
