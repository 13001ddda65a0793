"""Broken and hostile streams, and frames that a peer must never get."""

from __future__ import annotations

import random
import re
import signal
import socket
import time
from pathlib import Path

from forwarder import Forwarder
from harness import Case, above, expect, expect_equal, needs, wait_for
from peers import (Bridge, Child, Connection, FakeDaemon, FakeGuest,
                   bound_guest, exchange, fill_backlog, flood, frame, framed,
                   guest_pair, header, is_announcement, number_of, raw_frame)

# Around every limit: Ethernet, a slot's first part, GSO, the longest frame.
SIZES = [22, 59, 60, 61, 1514, 1983, 1984, 1985, 2048, 9000, 32764, 32765,
         65535, 65549, 65550]


# --- both ways ----------------------------------------------------------------

@needs()
def frames_of_every_size_pass_unchanged_both_ways(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    sent = [raw_frame(), raw_frame(b"x"),
            *(frame(number, size) for number, size in enumerate(SIZES))]
    for one in sent:
        bridge.guest.send(one)
        connection.expect(one)
        connection.send(one)
        bridge.guest.expect(one)
    for direction in ("up", "down"):
        bridge.until(f"{direction}.frames", 1 + len(sent))
        counted = bridge.value(direction)
        expect_equal("bytes", counted["bytes"], 60 + sum(map(len, sent)))
        expect_equal("drops", sum(counted["drops"].values()), 0)
    bridge.reload("network.max_frame=69632")
    bridge.guest.send(frame(1, 69632))
    connection.expect(frame(1, 69632))
    connection.send(frame(1, 69632))
    bridge.guest.expect(frame(1, 69632))


@needs()
def tcp_carries_frames_both_ways(case: Case):
    for name, host in (("ipv4", "127.0.0.1"), ("ipv6", "::1")):
        bridge = Bridge(case.corner(name),
                        daemon=FakeDaemon(host=host).start())
        connection = bridge.meet()
        for number, size in enumerate(SIZES):
            bridge.guest.send(frame(number, size))
            connection.send(frame(number, size))
        connection.expect(*range(len(SIZES)))
        bridge.guest.expect(*range(len(SIZES)))


# --- from the network ---------------------------------------------------------

@needs()
def empty_frames_and_runts_of_the_network_never_reach_the_guest(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    runts = [framed(b"r" * length) for length in range(1, 14)]
    connection.send_bytes(header(0) + framed(frame(1)) + header(0) * 3
                          + b"".join(runts) + framed(frame(2)))
    bridge.guest.expect(1, 2)
    bridge.until_dropped(4, "down.drops.empty")
    bridge.until_dropped(13, "down.drops.runt")


@needs()
def hostile_length_ends_the_connection_with_one_warning_that_names_it(
        case: Case):
    bridge = Bridge(case)
    for count, length in enumerate((65551, 69633, 0x7fffffff, 0xffffffff), 1):
        connection = bridge.meet()
        connection.send_bytes(framed(frame(1)) + header(length) + b"x" * 100)
        bridge.guest.expect(1)
        connection.expect_end()
        bridge.until_line("warn link: lost", length, count=count)
        bridge.until_dropped(count, "down.drops.oversize")
        bridge.until("network.outages", count)
    bridge.until_lines("warn ", count)


@needs()
def frames_cut_at_any_place_are_whole_at_the_guest(case: Case):
    bridge = Bridge(case, ["guest.stall=1s"])
    connection = bridge.meet()
    dice = random.Random(1)
    stream = b"".join(framed(frame(number, dice.choice(SIZES)))
                      for number in range(400))
    reader = case.own(Child(read_in_order, bridge.guest, 400))
    while stream:
        piece = dice.choice((1, 2, 3, 5, 64, 1500, 70000, 300000))
        connection.send_bytes(stream[:piece])
        stream = stream[piece:]
    wait_for("all frames in order at the guest", reader.hear)


def read_in_order(tell, guest: FakeGuest, count: int) -> None:
    guest.expect(*range(count))
    tell(b"in order")


@needs()
def part_of_a_frame_ends_with_its_connection_and_is_counted(case: Case):
    bridge = Bridge(case)
    whole = framed(frame(7, 1000))
    cuts = (1, 3, 4, 5, 500, len(whole) - 1)
    for count, length in enumerate(cuts, 1):
        connection = bridge.meet()
        connection.send_bytes(framed(frame(1)) + whole[:length])
        bridge.guest.expect(1)
        connection.close()
        bridge.until_dropped(count, "down.drops.truncated")
    bridge.meet()  # the frames before it were all whole
    bridge.until("network.outages", len(cuts))


# --- from the guest -----------------------------------------------------------

@needs()
def invalid_frames_of_the_guest_never_reach_the_network(case: Case):
    """Nor a frame over 65,536 bytes, at which socket_vmnet aborts for every
    machine."""
    bridge = Bridge(case)
    connection = bridge.meet()
    bridge.guest.send(b"", b"", *(b"r" * length for length in range(1, 14)),
                      b"VFKX", 1, b"", frame(2, 65550), frame(3, 65551),
                      frame(4, 69632), frame(5, 69633) + bytes(1000),
                      frame(6, 100000), 7)
    connection.expect(1, 2, 7)
    bridge.until_dropped(3, "up.drops.empty")
    bridge.until_dropped(14, "up.drops.runt")
    bridge.until_dropped(4, "up.drops.oversize")
    bridge.reload("network.max_frame=65536")
    bridge.guest.send(frame(1, 65536), frame(2, 65537), 3)
    connection.expect(1, 3)
    bridge.until_dropped(5, "up.drops.oversize")


@needs()
def hello_of_vfkit_and_krunkit_is_consumed_and_makes_the_guest_known(
        case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    bridge.guest.send(b"VFKT")
    bridge.until("guest.peer", str(bridge.guest.path))
    connection.send(1)
    bridge.guest.expect(1)
    bridge.guest.send(2)
    expect_equal("frame of the guest", connection.next_any(), frame(2))
    expect_equal("drops", set(bridge.value("up.drops").values()), {0})


# --- how it is written --------------------------------------------------------

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


@needs("strace")
def header_and_frame_are_written_together_within_write_batch(case: Case):
    size = 2500  # in two parts
    trace = case.path("calls")
    bridge = Bridge(case, ["network.write_batch=16K",
                           "network.announce=no", "log.level=error"],
                    before=["strace", "-D", "-f", "-s", "0", "-o", trace, "-e",
                            "abbrev=none",
                            "-e", "trace=sendmsg,sendto,write,writev"])
    connection = bridge.accept()
    case.own(Child(flood, bridge.guest, 200000, [size]))
    for _ in range(5000):
        connection.next()
    calls = [[int(length) for length in re.findall(r"iov_len=(\d+)", line)]
             for line in trace.read_text().splitlines() if " sendmsg(" in line]
    expect(calls, "expected sendmsg() to be what writes to the network")
    for parts in calls:
        expect_equal("bytes beyond whole frames", sum(parts) % (4 + size), 0)
        expect(sum(parts) <= 16384, f"expected 16384 bytes at most: {parts}")
    expect(max(map(sum, calls)) > 8192, "expected calls to be filled")


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


# --- connections --------------------------------------------------------------

def accepted_within(daemon: FakeDaemon, seconds: float, greeting: bytes) -> int:
    """Sends the greeting to each client, and closes."""
    count, end = 0, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        daemon.listener.settimeout(left)
        try:
            client = daemon.listener.accept()[0]
        except TimeoutError:
            break
        count += 1
        try:
            client.sendall(greeting)
        except OSError:
            pass
        client.close()
    return count


@needs()
def peer_that_accepts_and_closes_is_dialled_ten_times_in_five_seconds_at_most(
        case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 1000, [100]))
    connection.close()
    count = accepted_within(bridge.daemon, 5, b"")
    expect(2 <= count <= 10, f"expected 2 to 10 dials, found {count}")
    expect_equal("warnings about it", [line.split(" reason")[0] for line
                                       in bridge.lines("warn link:")],
                 ["warn link: lost",
                  "warn link: closed before any data was received"])
    bridge.until("network.outages", 1)


@needs()
def peer_that_sends_and_closes_is_dialled_at_most_every_ten_milliseconds(
        case: Case):
    bridge = Bridge(case, ["log.level=info"])
    bridge.meet().close()
    count = accepted_within(bridge.daemon, 2, framed(frame(1)))
    expect(count <= 202, f"expected at most 200 dials, found {count}")
    lines = bridge.lines("")
    expect(len(lines) < 100, f"expected few lines, found {len(lines)}")


@needs()
def frozen_daemon_costs_no_frame_once_it_thaws(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    bridge.guest.send(0)
    connection.expect(0)
    daemon = case.own(Child(count_frames, connection))
    daemon.signal(signal.SIGSTOP)
    case.own(Child(flood, bridge.guest, 20000, [1514]))
    stuck = until_no_more_frames(bridge)
    expect_equal("state", bridge.value("network.state"), "up")
    daemon.signal(signal.SIGCONT)
    bridge.until("up.frames", above(2 * stuck))
    wait_for("the daemon to have read them",
             lambda: last_number(daemon.hear()) > 2 * stuck)
    expect(b"!" not in daemon.hear(), "expected no frame to be missing")
    bridge.until("network.outages", 0)


def count_frames(tell, connection: Connection) -> None:
    """Reads frames and reports each number, or "!" for a wrong one."""
    last = 0
    connection.socket.settimeout(None)
    while True:
        for received in connection.read():
            if is_announcement(received):
                continue
            if number_of(received) != last + 1:
                tell(b"!")
            last = number_of(received)
        tell(b"%d\n" % last)


def last_number(told: bytes) -> int:
    return int(told.rpartition(b"\n")[0].rpartition(b"\n")[2] or 0)


def until_no_more_frames(bridge: Bridge) -> int:
    """Returns how many frames the network accepted before it was full."""
    seen: list[int] = []

    def stopped() -> bool:
        seen.append(bridge.value("up.frames"))
        return seen[-1] > 1 and seen[-4:] == [seen[-1]] * 4
    wait_for("the network to take no more", stopped)
    return seen[-1]


@needs()
def full_backlog_is_reported_and_retried_until_there_is_room(case: Case):
    daemon = FakeDaemon(case.path("net.sock"))
    daemon.bind()
    daemon.listen(0)
    fillers = fill_backlog(daemon.path)
    bridge = Bridge(case, daemon=daemon)
    wait_for("a log line about the full backlog", lambda: any(
        "backlog is full" in line
        for line in bridge.lines("debug link: dial failed")))
    expect_equal("state", bridge.value("network.state"), "down")
    for filler in fillers:
        filler.close()

    def is_ours() -> bool:
        """Not one of the earlier connections, which have ended."""
        connection = bridge.accept()
        bridge.guest.send(1)
        return bool(connection.socket.recv(1, socket.MSG_PEEK)) \
            and number_of(connection.next()) == 1
    wait_for("the frame", is_ours)


@needs()
def daemon_that_accepts_late_gets_all_frames(case: Case):
    bridge = Bridge(case)
    bridge.until("network.state", "up")
    bridge.guest.send(*range(50))
    bridge.until("up.frames", 50)
    bridge.accept().expect(*range(50))


@needs()
def reset_of_a_tcp_connection_is_one_outage(case: Case):
    bridge = Bridge(case, daemon=FakeDaemon().start())
    bridge.meet().reset()
    bridge.meet()
    bridge.until("network.outages", 1)
    bridge.until_lines("warn link: lost", 1)


@needs()
def descriptor_that_was_closed_is_never_written_to_under_another_owner(
        case: Case):
    """Connections to the control socket take the numbers that broken network
    connections leave; a frame among what they read would be a stranger's."""
    bridge = Bridge(case, ["log.level=error"])
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 20000, [1514]))
    for _ in range(100):
        connection.send(1)
        for _ in range(5):
            connection.next()
        connection.close()
        for stranger in [ask(bridge.control) for _ in range(3)]:
            answer = read_all(stranger)
            expect(not answer  # its request came too late
                   or answer.startswith(b'{"version":') and answer.isascii(),
                   f"expected nothing but the status, found {answer!r}")
        connection = bridge.accept()


def ask(path: Path) -> socket.socket:
    asker = socket.socket(socket.AF_UNIX)
    asker.settimeout(10)
    asker.connect(str(path))
    try:
        asker.sendall(b"status json\n")
    except BrokenPipeError:
        pass
    return asker


def read_all(stream: socket.socket) -> bytes:
    answer = b""
    with stream:
        try:
            while more := stream.recv(65536):
                answer += more
        except ConnectionResetError:
            pass
    return answer


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
