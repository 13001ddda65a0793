"""Use of memory, descriptors, wakeups and system calls; and that a full disk or
a missing standard error does no harm."""

from __future__ import annotations

import os
import socket
import time

from harness import Case, above, expect, expect_equal, needs, wait_for
from peers import (Bridge, Child, Connection, context_switches, descriptors,
                   flood, frame, pour, read_guest, resident_kib, swallow)

RESIDENT_KIB = 4096
SPREAD_KIB = 64
WAYS = ("up", "down")
SIZES = [60, 1514, 9000, 32000, 65000]


def reconnect(bridge: Bridge, connection: Connection, times: int
              ) -> Connection:
    """Frames of every size through each generation; the last one is up."""
    for number in range(times):
        connection.close()
        connection = bridge.daemon.accept()
        one = frame(number, SIZES[number % len(SIZES)])
        bridge.guest.send(one)
        connection.expect(one)
        connection.send(one)
        bridge.guest.expect(one)
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
    bridge.until("network.outages", 300)


@needs("plain-build", limit=240)
def memory_stays_small_under_load_of_any_size(case: Case):
    bridge = Bridge(case, ["log.level=error", "guest.stall=1s"])
    connection = bridge.meet()
    case.own(Child(read_guest, bridge.guest))
    seen = []
    for sizes in ([60], [1514], [6000], [65000], SIZES, [60]):
        case.own(Child(swallow, connection.socket))
        before = {way: bridge.value(f"{way}.frames") for way in WAYS}
        senders = [case.own(Child(flood, bridge.guest, 1000000, sizes)),
                   case.own(Child(pour, connection, sizes[-1]))]
        for way in WAYS:
            bridge.until(f"{way}.frames", above(before[way] + 3000), 40)
        seen.append(most_kib(bridge.pid))
        for sender in senders:
            sender.kill()
        wait_until_quiet(bridge)
        # A killed sender may have left half a frame in the stream.
        generation = bridge.value("network.generation")
        connection.socket.shutdown(socket.SHUT_RDWR)
        connection.close()
        bridge.until("network.generation", above(generation))
        connection = bridge.accept()
    print(f"        {seen} KiB")
    expect(max(seen) <= RESIDENT_KIB,
           f"expected {RESIDENT_KIB} KiB at most, found {seen}")


def most_kib(pid: int) -> int:
    """The most of some samples."""
    samples = []
    for _ in range(5):
        samples.append(resident_kib(pid))
        time.sleep(0.05)
    return max(samples)


def wait_until_quiet(bridge: Bridge) -> None:
    def quiet() -> bool:
        before = [bridge.value(f"{way}.frames") for way in WAYS]
        time.sleep(0.05)
        return before == [bridge.value(f"{way}.frames") for way in WAYS]
    wait_for("traffic to end", quiet)


@needs("plain-build")
def nothing_wakes_up_when_nothing_happens(case: Case):
    """Counts wakeups during two seconds."""
    bridge = Bridge(case, ["reconnect.max=200ms"])
    connection = bridge.meet()
    expect_no_wakeups(bridge)
    # Other files in the folders of both sockets cause no wakeup.
    before = context_switches(bridge.pid)
    for number in range(50):
        case.path(f"file{number}").write_text("x")
        case.path(f"file{number}").unlink()
    expect_equal("wakeups by strange files",
                 context_switches(bridge.pid) - before, 0)
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
def frame_wakes_only_the_thread_that_carries_it(case: Case):
    """Some kernels wake readers for room as well as for bytes."""
    bridge = Bridge(case)
    connection = bridge.meet()
    expect_no_wakeups_by_frames_out(bridge, connection)
    for number in range(20):  # an answer to each: it may wait in recv() now
        bridge.exchange(connection, number)
    send_out(bridge, connection, 20)
    bridge.exchange(connection, 1)
    expect_no_wakeups_by_frames_out(bridge, connection)


def send_out(bridge: Bridge, connection: Connection, count: int) -> None:
    for number in range(count):
        bridge.guest.send(number)
        connection.expect(number)


def expect_no_wakeups_by_frames_out(
        bridge: Bridge, connection: Connection) -> None:
    before = context_switches(bridge.pid, "fwd-down")
    send_out(bridge, connection, 200)
    woken = context_switches(bridge.pid, "fwd-down") - before
    # It may just have been on its way to sleep.
    expect(woken <= 2, f"expected fwd-down to sleep on, it woke {woken} times")


# --- system calls -------------------------------------------------------------

# --- standard error -----------------------------------------------------------

def expect_service_without_log(case: Case, redirection: str, rounds: int,
                               **process) -> None:
    bridge = Bridge(case, before=["sh", "-c", f'exec "$@" {redirection}', "sh"],
                    **process)
    for number in range(rounds):
        connection = bridge.accept()
        bridge.exchange(connection, number)
        connection.close()
    bridge.stop()


@needs()
def log_to_a_closed_or_full_standard_error_does_no_harm(case: Case):
    """A full disk; standard error closed, alone or with the other two: no
    descriptor of ours may take its number, and a log line for a frame."""
    for number, redirection in enumerate((
            "2>/dev/full", "2>&-", "0<&- 2>&-", "0<&- 1>&- 2>&-",
            "1>&- 2>&-")):
        expect_service_without_log(case.corner(str(number)), redirection, 5)


@needs()
def log_that_is_not_read_does_not_delay_traffic(case: Case):
    """A pipe that is full: lines are lost, frames are not."""
    unread, full = os.pipe()
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, bytes(4096))
    except BlockingIOError:
        os.set_blocking(full, True)
    expect_service_without_log(case, f"2>&{full}", 100, pass_fds=[full])
    os.close(full)
    os.close(unread)
