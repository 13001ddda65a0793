"""Frames of every size, what a peer must never get, and sockets that outlive a
connection or a forwarder."""

from __future__ import annotations

import socket
from pathlib import Path

from forwarder import Forwarder
from harness import Case, above, expect, expect_equal, needs
from peers import (Bridge, Child, FakeDaemon, FakeGuest, bound_guest, exchange,
                   flood, frame, guest_pair, header, is_announcement, number_of,
                   raw_frame)

# Around every limit: Ethernet, a slot's first part, GSO, the longest frame.
SIZES = [22, 59, 60, 61, 1514, 1983, 1984, 1985, 2048, 9000, 32764, 32765,
         65535, 65549, 65550]


# --- frames -------------------------------------------------------------------

@needs()
def frames_of_every_size_pass_unchanged_over_unix_ipv4_and_ipv6(case: Case):
    sent = [raw_frame(), raw_frame(b"x"),
            *(frame(number, size) for number, size in enumerate(SIZES))]
    for daemon in (FakeDaemon(case.path("net.sock")), FakeDaemon(),
                   FakeDaemon(host="::1")):
        bridge = Bridge(case.corner(f"to-{daemon.host}-{daemon.path is None}"),
                        ["network.max_frame=69632"], daemon)
        connection = bridge.meet()
        for one in [*sent, frame(1, 69632)]:
            bridge.guest.send(one)
            connection.expect(one)
            connection.send(one)
            bridge.guest.expect(one)
        for direction in ("up", "down"):
            drops = bridge.value(f"{direction}.drops")
            expect_equal("drops", sum(drops.values()), 0)


@needs()
def reader_that_takes_header_and_body_with_one_read_each_never_falls_short(
        case: Case):
    bridge = Bridge(case)
    stream = bridge.meet().socket
    case.own(Child(flood, bridge.guest, 100000, [1514, 60, 9000]))
    for number in range(1, 20001):
        head = stream.recv(4)
        expect_equal("length of a header read", len(head), 4)
        length = int.from_bytes(head, "big")
        body = stream.recv(length)
        expect_equal(f"length of body {number}", len(body), length)
        expect_equal("number", number_of(body), number)


@needs()
def nothing_but_the_guests_own_frames_and_its_announcement_is_ever_sent(
        case: Case):
    """No probe by default, and no address of the forwarder's own."""
    bridge = Bridge(case, ["keepalive.interval=100ms", "reconnect.max=200ms"])
    for generation in range(5):
        connection = bridge.meet()
        if generation == 0:
            bridge.until("uptime_ms", above(1500))
        bridge.guest.send(1)
        seen = []
        while not seen or seen[-1] != frame(1):
            seen.append(connection.next_any())
        for one in seen:
            expect(is_announcement(one) or one == frame(1),
                   f"expected no frame but the guest's: {one.hex()}")
        connection.close()


# --- our own end --------------------------------------------------------------

class NamingGuest(FakeGuest):
    """Names its receiver with each frame, as QEMU does; other guests connect
    their socket."""

    def __init__(self, path: Path, forwarder_path: Path) -> None:
        super().__init__(bound_guest(path).socket, path)
        self.forwarder_path = str(forwarder_path)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.socket.sendto(frame(number), self.forwarder_path)


@needs()
def guest_keeps_its_socket_when_the_forwarder_is_killed(case: Case):
    """If it names the receiver with each frame, or connects again."""
    bridge = Bridge(case)
    naming = case.own(NamingGuest(case.path("naming.sock"), bridge.guest_path))
    connected, connection = bridge.guest, bridge.accept()
    for guest in (naming, naming, connected, connected, naming):
        bridge.process.kill()
        connection.close()
        try:
            guest.send(99)
            expect(False, "expected that the guest's frames are refused")
        except OSError:
            pass
        bridge.process = Forwarder(case, bridge.daemon.endpoint,
                                   f"unixgram:{bridge.guest_path}").process
        connection = bridge.accept()
        if guest is connected:
            guest.socket.connect(str(bridge.guest_path))
        for number in (1, 2):
            exchange(guest, connection, number)


@needs()
def inherited_descriptor_stays_usable_after_a_stop_or_kill(case: Case):
    """A shutdown() would break it for its other holders: a descriptor store, a
    launcher, the next forwarder. It may be blocking or not."""
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    guest, far = guest_pair()
    case.own(guest)
    case.own(far)
    guest.send(9)
    for number in range(10, 70, 10):
        far.setblocking(number % 20 == 0)
        forwarder = Forwarder(case, daemon.endpoint, f"fd:{far.fileno()}",
                              pass_fds=[far.fileno()])
        connection = case.own(daemon.accept())
        connection.expect(number - 1)  # it was queued
        exchange(guest, connection, number)
        if number % 20:
            forwarder.stop()
        else:
            forwarder.process.kill()
        connection.close()
        far.send(frame(5))  # another holder can still use it
        guest.expect(5)
        guest.send(number + 9)
