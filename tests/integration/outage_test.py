"""The network goes away and comes back; the guest should hardly notice."""

from __future__ import annotations

import os
import random
import socket
import statistics
import time
from typing import Callable

from harness import Case, Failure, above, expect, expect_equal, needs, wait_for
from hazards_test import until_no_more_frames
from peers import (MAC, Bridge, Child, Connection, FakeDaemon, FakeGuest, flood,
                   frame, framed, is_announcement, number_of)
from probes import arp_question

RATE = 20000
KILLS = 50  # in each of two ways: a hundred in all
# What a dead daemon can have had unread: its socket's buffer, and that of a
# connection in the backlog that was closed with it.
UNREAD_BYTES = 2 * 2 * 212992
SIZES = [60, 64, 100, 590, 1514]


# --- killed under load --------------------------------------------------------

class Sequence:
    """Checks that the frames of a flood come in order, none twice."""

    def __init__(self) -> None:
        self.last = 0
        self.missing = 0

    def add(self, received: list[bytes]) -> None:
        for one in received:
            if not is_announcement(one):
                self.add_number(number_of(one))

    def add_number(self, number: int) -> None:
        expect(number > self.last, f"expected a frame after {self.last}, found"
                                   f" {number} (twice, or out of order)")
        self.missing += number - self.last - 1
        self.last = number

    def read_from(self, connection: Connection, frames: int) -> None:
        goal = self.last + frames
        while self.last < goal:
            self.add(connection.read())

    def add_told(self, told: bytes) -> int:
        """What a dead daemon had read. Returns how many frames were missing
        before that; within it none may be."""
        missing, found = self.missing, None
        for line in told.split(b"\n")[:-1]:
            self.add_number(int(line))
            if found is None:
                found = self.missing - missing
            expect_equal("frames missing in a daemon's life",
                         self.missing - missing, found)
        return found


def prove(bridge: Bridge, connection: Connection) -> None:
    """The forwarder has heard from the daemon when the guest has."""
    connection.send(0)
    bridge.guest.next()


@needs(limit=120)
def no_frame_is_lost_or_doubled_when_a_daemon_exits_fifty_times(case: Case):
    """The daemon reports what it left unread, so no gap is allowed at all. It
    ends at any moment: inside a frame, with an empty or a full buffer."""
    dice = random.Random(2)
    bridge = Bridge(case)
    sequence = Sequence()
    case.own(Child(flood, bridge.guest, RATE, SIZES))
    connection = bridge.accept()
    bridge.until("guest.peer", bool)
    for _ in range(KILLS):
        prove(bridge, connection)
        sequence.read_from(connection, dice.randrange(1, 2500))
        if dice.random() < 0.3:  # with a full buffer
            until_no_more_frames(bridge)
        bridge.daemon.stop()
        sequence.add(connection.drain_after_death())
        time.sleep(dice.choice((0, 0, 0.002, 0.05)))
        bridge.daemon.start()
        connection = bridge.accept()
    sequence.read_from(connection, 1000)
    expect_equal("frames lost", sequence.missing, 0)
    bridge.until("network.outages", KILLS)
    expect_equal("frames dropped", bridge.value("up.drops.outage"), 0)
    lost = bridge.lines("warn link: lost")
    expect(len(lost) <= KILLS, f"expected {KILLS} warnings, found {len(lost)}")


def serve(tell: Callable, daemon: FakeDaemon) -> None:
    """A daemon that reports the numbers it has read. When it is killed, its
    connection closes first and its listener last."""
    low = daemon.listener
    os.dup2(low.fileno(), 500)
    daemon.listener = socket.socket(fileno=500)
    daemon.listener.settimeout(10)
    low.detach()
    while True:
        connection = daemon.greet()
        connection.socket.settimeout(None)
        try:
            while True:
                told = [b"%d\n" % number_of(one) for one in connection.read()
                        if not is_announcement(one)]
                tell(b"".join(told))
        except (Failure, ConnectionError):
            pass


@needs(limit=120)
def frames_are_lost_only_inside_a_daemon_killed_fifty_times(case: Case):
    """SIGKILL for a daemon of its own process. Frames may be missing only
    where one died, and no more than its buffers hold."""
    dice = random.Random(3)
    bridge = Bridge(case, ["log.level=info"], daemon_runs=False)
    sequence = Sequence()
    case.own(Child(flood, bridge.guest, RATE, SIZES))
    bridge.until("guest.peer", bool)
    deaths = []
    for _ in range(KILLS + 1):
        process = start_daemon_process(case, bridge.daemon)
        wanted = dice.randrange(1, 2000)
        wait_for("the daemon to get its frames",
                 lambda: process.hear().count(b"\n") > wanted)
        bridge.guest.next()  # now the generation is proven
        process.kill()
        deaths.append(sequence.add_told(process.hear()))
        time.sleep(dice.choice((0, 0, 0.002, 0.05)))
    expect(max(deaths) <= UNREAD_BYTES // 64,
           f"expected only unread frames to be missing: {deaths}")
    start_daemon_process(case, bridge.daemon)
    bridge.until("network.state", "up")
    bridge.until("network.outages", KILLS + 1)
    expect_equal("frames dropped", bridge.value("up.drops.outage"), 0)


def start_daemon_process(case: Case, daemon: FakeDaemon) -> Child:
    daemon.start()
    process = case.own(Child(serve, daemon))
    daemon.stop()
    return process


@needs()
def guest_gets_whole_frames_in_order_when_a_daemon_exits_thirty_times(
        case: Case):
    """The other direction: each generation's frames arrive in order, and before
    those of the next generation."""
    bridge = Bridge(case)
    connection = bridge.meet()
    for number in range(1, 1801, 60):
        burst = framed(*(frame(number + i, 300) for i in range(60)))
        connection.send_bytes(burst[:-100])
        bridge.guest.expect(*range(number, number + 59))
        connection.close()
        connection = bridge.meet()
    bridge.until("down.drops.truncated", 30)


@needs()
def what_a_daemon_writes_before_it_closes_reaches_the_guest(case: Case):
    """Even if fwd-up detects the end first."""
    bridge = Bridge(case, ["network.hold=0"])
    bridge.meet().close()
    case.own(Child(flood, bridge.guest, RATE, SIZES))
    for number in range(1, 301):
        daemon = bridge.daemon.accept()
        daemon.send(number)
        daemon.close()
        bridge.guest.expect(number)


# --- how fast it comes back ---------------------------------------------------

def read_first_frame(connection: Connection) -> None:
    """In small pieces, as taking many frames apart takes time here."""
    seen: list[bytes] = []
    while all(map(is_announcement, seen)):
        seen += connection.deframer.feed(connection.socket.recv(200))


def first_frame_after_listen(bridge: Bridge) -> float:
    """Milliseconds from listen() to the first of the guest's frames. Then the
    daemon sends a frame and ends."""
    started = time.monotonic()
    bridge.daemon.listen()
    connection = bridge.daemon.accept()
    read_first_frame(connection)
    took = time.monotonic() - started
    prove(bridge, connection)
    bridge.daemon.stop()
    connection.close()
    return took * 1000


@needs("plain-build")
def first_frame_is_through_as_soon_as_the_daemon_listens(case: Case):
    """`make bench` measures the time, where nothing else runs. This shows
    that no backoff is waited out, which takes 75 ms at least. Over outages of
    all kinds: bound and listening at once, or a while after."""
    dice = random.Random(4)
    bridge = Bridge(case, ["log.level=info"])
    case.own(Child(flood, bridge.guest, RATE, [100]))
    first_frame_after_listen(bridge)
    took = []
    for _ in range(40):
        bridge.until("network.state", "down")
        time.sleep(dice.uniform(0, 0.15))
        bridge.daemon.bind()
        time.sleep(dice.choice((0, 0, 0.003, 0.02)))
        took.append(first_frame_after_listen(bridge))
    middle = statistics.median(took)
    print(f"        median {middle:.2f} ms, most {max(took):.2f} ms")
    expect(middle < 20, f"expected far less than a backoff, not {middle} ms")


@needs()
def daemon_absent_at_start_is_reached_without_waiting_out_a_backoff(
        case: Case):
    """However its socket comes: bound in a folder that was there, or wasn't;
    bound elsewhere, listening already, then renamed; in the place of a dead
    one's. Or, where no path is watched, after a backoff."""
    late = ["reconnect.min=10m", "reconnect.max=10m"]
    for name, path, options in (
            ("bound", "net.sock", late), ("moved", "net.sock", late),
            ("folders", "later/still/net.sock", late),
            ("unwatched", "net.sock", ["reconnect.watch=no"]),
            ("stale", "net.sock", late)):
        corner = case.corner(name)
        daemon = FakeDaemon(corner.path(path))
        if name == "stale":
            daemon.start().stop()
        bridge = Bridge(corner, options, daemon, daemon_runs=False)
        bridge.until_line("info link: waiting")
        bridge.daemon.path.parent.mkdir(parents=True, exist_ok=True)
        if name == "moved":
            other = case.own(FakeDaemon(corner.path("other.sock"))).start()
            other.path.rename(bridge.daemon.path)
            bridge.daemon.listener = other.listener
        else:
            bridge.daemon.start()
        bridge.meet()


# --- one outage, one warning --------------------------------------------------

@needs()
def break_detected_by_both_threads_is_one_outage(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 50000, [1514]))
    for _ in range(100):
        connection.next()
    bridge.lose(connection)
    connection = bridge.come_back()
    connection.send(1)
    bridge.until_line("warn link: lost", "reason=", "generation=1", "up=")
    bridge.until_line("info link: up", "endpoint=unix:", "generation=2",
                      "outage=", "dials=", count=2)
    bridge.until_lines("warn ", 1)
    bridge.until("network.outages", 1)
    bridge.until("network.generation", 2)


@needs()
def loss_is_detected_without_traffic_and_failed_dials_are_logged_once(
        case: Case):
    bridge = Bridge(case, ["log.level=info", "reconnect.max=100ms"])
    bridge.lose(bridge.meet())
    dials = bridge.value("network.dials")
    bridge.until("network.dials", above(dials + 10))
    expect_equal("lines", [line.split()[2:4] for line in bridge.lines("")
                           if " link: " in line], [["up", f"endpoint="
                           f"{bridge.daemon.endpoint}"], ["lost",
                           'reason="peer']])


# --- hold ---------------------------------------------------------------------

@needs()
def guest_blocks_for_hold_and_then_its_frames_are_dropped(case: Case):
    for name, hold, seconds in (("hold", "500ms", 0.5), ("zero", "0", 0)):
        bridge = Bridge(case.corner(name), [f"network.hold={hold}"])
        connection = bridge.meet()
        started = time.monotonic()
        bridge.lose(connection)
        bridge.guest.send(*range(1, 301))
        bridge.until_dropped(300, "up.drops.outage")
        expect(time.monotonic() - started >= seconds, "expected a wait")
        connection = bridge.come_back()
        bridge.guest.send(301)
        connection.expect(301)


@needs()
def hold_begins_with_the_outage_and_not_with_each_flap(case: Case):
    """A daemon that accepts and closes at least every second is one long
    outage, after two seconds of which frames are dropped."""
    bridge = Bridge(case, ["network.hold=2s", "reconnect.min=200ms",
                           "reconnect.max=1s"])
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 500, [100]))
    case.own(Child(flap, bridge.daemon))
    connection.close()
    bridge.until("up.drops.outage", above(0))
    expect(bridge.value("network.generation") > 2, "expected flaps")
    expect_equal("outages", bridge.value("network.outages"), 1)


def flap(tell: Callable, daemon: FakeDaemon) -> None:
    daemon.listener.settimeout(None)
    while True:
        daemon.listener.accept()[0].close()


@needs()
def frames_before_the_first_connection_and_within_hold_are_not_lost(
        case: Case):
    bridge = Bridge(case, ["network.hold=forever"], daemon_runs=False)
    bridge.guest.send(*range(1, 6))
    bridge.until("network.down_ms", above(2500))  # more than any default
    connection = bridge.come_back()
    connection.expect(*range(1, 6))
    prove(bridge, connection)
    bridge.lose(connection)
    bridge.guest.send(*range(6, 12))
    bridge.come_back().expect(*range(6, 12))
    expect_equal("dropped", bridge.value("up.drops.outage"), 0)


# --- the announcement ---------------------------------------------------------

# RFC 903, request reverse, in a broadcast of 60 bytes: sender and target
# hardware are the guest, the protocol addresses are not known.
ANNOUNCEMENT = (b"\xff" * 6 + MAC + bytes.fromhex("8035 0001 0800 06 04 0003")
                + MAC + bytes(4) + MAC + bytes(4)).ljust(60, b"\0")


@needs()
def guest_is_announced_first_on_each_new_connection_once_it_is_known(
        case: Case):
    """With its last address. Group addresses and zeros are not learned."""
    bridge = Bridge(case)
    other = bytes.fromhex("52540000cafe")
    announced = ANNOUNCEMENT.replace(MAC, other)
    for generation, (source, announcement) in enumerate((
            (b"\x01" + MAC[1:], None), (bytes(6), None), (MAC, None),
            (other, ANNOUNCEMENT), (other, announced)), 1):
        connection = bridge.accept()
        bridge.until("network.generation", generation)
        sent = frame(1, source=source)
        bridge.guest.send(sent)
        for wanted in filter(None, (announcement, sent)):
            expect_equal("next frame", connection.next_any(), wanted)
        prove(bridge, connection)
        connection.close()
    bridge.accept()
    bridge.until("guest.mac", other.hex(":"))
    bridge.reload("network.announce=no", "network.endpoint="
                  f"{bridge.daemon.endpoint.replace('/net.', '/./net.')}")
    connection = bridge.accept()
    bridge.guest.send(1)
    expect_equal("first frame, announce=no", connection.next_any(), frame(1))


# --- dials that take their time, connections that don't last -------------------

MACS = [bytes.fromhex("5254000000%02x" % last) for last in (1, 2)]


def alternate(tell: Callable, guest: FakeGuest) -> None:
    """Sends ARP requests from two MACs, 900 times a second."""
    number = 0
    while True:
        guest.send(arp_question((MACS[number % 2], "10.0.0.2"), "10.0.0.1"))
        number += 1
        time.sleep(1 / 900)


@needs()
def frames_of_the_guest_do_not_interrupt_a_tcp_dial(case: Case):
    """No probe is answered, so the forwarder may learn from each guest frame.
    The backlog is full: the dial waits a second for its next SYN."""
    daemon = case.own(FakeDaemon()).start()
    bridge = Bridge(case, [
        "network.hold=0", "keepalive.mode=arp", "keepalive.gateway=10.0.0.1",
        "keepalive.interval=100ms", "reconnect.min=2s"], daemon)
    connection = bridge.accept()
    case.own(Child(alternate, bridge.guest))
    bridge.until("keepalive.probes", above(1))
    daemon.stop()
    connection.close()
    bridge.until_line("debug link: dial failed")
    daemon.bind()
    daemon.listen(0)
    for _ in range(4):
        filler = case.own(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", daemon.port))
    before = bridge.value("network.dials")
    bridge.until("network.dials", above(before))
    daemon.listen(16)
    bridge.until("network.state", "up")
    expect_equal("dials", bridge.value("network.dials"), before + 1)
