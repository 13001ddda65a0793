"""What peers really do to a stream of frames, and what they must never get."""

from __future__ import annotations

import random
import re
import signal
import socket
import time
from pathlib import Path

from forwarder import Forwarder, command_line
from harness import (Case, Process, expect, expect_equal, needs, wait_for)
from peers import (Bridge, Child, Connection, FakeDaemon, FakeGuest,
                   fill_backlog, flood, frame, framed, guest_on_path,
                   guest_pair, header, is_announcement, number_of, numbers,
                   raw_frame)

# Around the ends of everything: Ethernet, a slot's first part, GSO, the limit.
SIZES = [22, 59, 60, 61, 1514, 1983, 1984, 1985, 2048, 9000, 32764, 32765,
         65535, 65549, 65550]
UP, DOWN = "guest_to_network", "network_to_guest"


# --- both ways ----------------------------------------------------------------

@needs()
def frames_of_every_size_pass_unchanged_both_ways(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for number, size in enumerate(SIZES):
        sent = frame(number, size)
        bridge.guest.send(sent)
        expect(connection.next() == sent, f"expected {size} bytes to go out")
        connection.send(sent)
        expect(bridge.guest.receive() == sent, f"expected {size} bytes to come")
    for sent in (raw_frame(), raw_frame(b"x")):
        bridge.guest.send(sent)
        expect_equal("smallest frame out", connection.next(), sent)
        connection.send(sent)
        expect_equal("smallest frame in", bridge.guest.receive(), sent)
    bridge.wait_for_frames(1 + len(SIZES) + 2)
    status = bridge.status()
    for direction in (UP, DOWN):
        counted = status[direction]
        expect_equal("bytes counted", counted["bytes"],
                     60 + sum(SIZES) + 14 + 15)
        expect_equal("drops", sum(counted["drops"].values()), 0)


@needs()
def largest_frames_that_can_be_allowed_pass_both_ways(case: Case):
    bridge = Bridge(case, ["network.max_frame=69632"])
    connection = bridge.meet()
    sent = frame(1, 69632)
    bridge.guest.send(sent)
    expect(connection.next() == sent, "expected 69632 bytes to go out")
    connection.send(sent)
    expect(bridge.guest.receive() == sent, "expected 69632 bytes to come")


@needs()
def tcp_carries_frames_both_ways(case: Case):
    for host in ("127.0.0.1", "::1"):
        one = Case()
        try:
            bridge = Bridge(one, daemon=FakeDaemon(host=host).start())
            connection = bridge.meet()
            for number, size in enumerate(SIZES):
                bridge.guest.send(frame(number, size))
                connection.send(frame(number, size))
            count = range(len(SIZES))
            expect_equal(f"frames to {host}",
                         numbers(connection.take(len(SIZES))), list(count))
            expect_equal(f"frames from {host}",
                         numbers(bridge.guest.take(len(SIZES))), list(count))
        finally:
            one.close()


# --- from the network ---------------------------------------------------------

@needs()
def empty_frames_and_runts_of_the_network_never_reach_the_guest(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    runts = [framed(b"r" * length) for length in range(1, 14)]
    connection.send_bytes(header(0) + framed(frame(1)) + header(0) * 3
                          + b"".join(runts) + framed(frame(2)))
    expect_equal("what the guest got", numbers(bridge.guest.take(2)), [1, 2])
    bridge.wait_for_drops(DOWN, "empty", 4)
    bridge.wait_for_drops(DOWN, "runt", 13)


@needs()
def hostile_length_ends_the_connection_with_one_warning_that_names_it(
        case: Case):
    bridge = Bridge(case)
    for count, length in enumerate((65551, 69633, 0x7fffffff, 0xffffffff), 1):
        connection = bridge.meet()
        connection.send_bytes(framed(frame(1)) + header(length) + b"x" * 100)
        expect_equal("frame before it", number_of(bridge.guest.receive()), 1)
        connection.expect_end()
        wait_for("the loss to be told",
                 lambda: len(bridge.log_lines("warn link: lost")) == count)
        expect(str(length) in bridge.log_lines("warn link: lost")[-1],
               f"expected a warning that says {length}")
        expect_equal("oversize", bridge.drops(DOWN, "oversize"), count)
        expect_equal("outages", bridge.status()["network"]["outages"], count)


@needs()
def frames_that_come_one_byte_at_a_time_are_whole_at_the_guest(case: Case):
    bridge = Bridge(case, daemon=FakeDaemon().start())
    connection = bridge.meet()
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in framed(frame(1), frame(2, 100)) + header(0) + framed(frame(3)):
        connection.send_bytes(bytes([byte]))
    expect_equal("what the guest got", numbers(bridge.guest.take(3)), [1, 2, 3])


@needs()
def frames_cut_at_any_place_are_whole_at_the_guest(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    dice = random.Random(1)
    sizes = [dice.choice(SIZES) for _ in range(400)]
    stream = b"".join(framed(frame(number, size))
                      for number, size in enumerate(sizes))
    reader = case.own(Child(read_in_order, bridge.guest, len(sizes)))
    at = 0
    while at < len(stream):
        piece = dice.choice((1, 2, 3, 5, 64, 1500, 70000, 300000))
        connection.send_bytes(stream[at:at + piece])
        at += piece
    wait_for("all frames at the guest", lambda: reader.hear())
    expect_equal("the guest's finding", reader.hear(), b"in order")


def read_in_order(tell, guest: FakeGuest, count: int) -> None:
    found = numbers(guest.take(count))
    tell(b"in order" if found == list(range(count)) else b"wrong")


@needs()
def part_of_a_frame_ends_with_its_connection_and_is_counted(case: Case):
    bridge = Bridge(case)
    whole = framed(frame(7, 1000))
    cuts = (1, 3, 4, 5, 500, len(whole) - 1)
    for count, length in enumerate(cuts, 1):
        connection = bridge.meet()
        connection.send_bytes(framed(frame(1)) + whole[:length])
        expect_equal("frame before", number_of(bridge.guest.receive()), 1)
        connection.close()
        wait_for("the cut frame to be counted",
                 lambda: bridge.drops(DOWN, "truncated") == count)
    bridge.meet()  # nothing but whole frames between those
    expect_equal("outages", bridge.status()["network"]["outages"], len(cuts))


# --- from the guest -----------------------------------------------------------

@needs()
def empty_frames_and_runts_of_the_guest_never_reach_the_network(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    bridge.guest.send(b"", b"", *(b"r" * length for length in range(1, 14)),
                      b"VFKX", frame(1), b"", frame(2))
    expect_equal("what the network got", numbers(connection.take(2)), [1, 2])
    bridge.wait_for_drops(UP, "empty", 3)
    bridge.wait_for_drops(UP, "runt", 14)


@needs()
def frames_over_max_frame_of_the_guest_never_reach_the_network(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    bridge.guest.send(frame(1, 65550), frame(2, 65551), frame(3, 69632),
                      frame(4, 69633) + bytes(1000), frame(5, 100000),
                      frame(6))
    expect_equal("what the network got", numbers(connection.take(2)), [1, 6])
    bridge.wait_for_drops(UP, "oversize", 4)


@needs()
def hello_of_vfkit_and_krunkit_is_consumed_and_makes_the_guest_known(
        case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    bridge.guest.send(b"VFKT")
    wait_for("the guest to be known",
             lambda: bridge.status()["guest"]["peer"])
    connection.send(frame(1))
    expect_equal("frame to the guest", number_of(bridge.guest.receive()), 1)
    bridge.guest.send(frame(2))
    expect_equal("frame of the guest", number_of(connection.next_any()), 2)
    expect_equal("drops", sum(bridge.status()[UP]["drops"].values()), 0)


# --- how it is written --------------------------------------------------------

@needs()
def reader_that_takes_header_and_body_with_one_read_each_never_falls_short(
        case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 100000, [1514, 60, 9000]))
    stream = connection.socket
    for number in range(1, 20001):
        head = stream.recv(4)
        expect_equal("length of a header read", len(head), 4)
        length = int.from_bytes(head, "big")
        body = stream.recv(length)
        expect_equal(f"length of body {number}", len(body), length)
        expect_equal("number", number_of(body), number)


def written_calls(case: Case, write_batch: str, sizes: list[int]
                  ) -> list[list[int]]:
    """The part lengths of each message that a traced forwarder writes to the
    network while a guest floods it."""
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    trace = case.path("calls")
    case.own(Process(
        ["strace", "-D", "-f", "-s", "0", "-o", trace, "-e", "abbrev=none",
         "-e", "trace=sendmsg,sendto,write,writev",
         *command_line(case.path("control.sock"), daemon.endpoint,
                       f"unixgram:{case.path('guest.sock')}",
                       [f"network.write_batch={write_batch}",
                        "network.announce=no", "log.level=error"])],
        case.path("forwarder.log")))
    connection = case.own(daemon.accept())
    guest = case.own(wait_for("the forwarder's socket",
                              lambda: try_guest(case)))
    case.own(Child(flood, guest, 200000, sizes))
    connection.take(5000)
    calls = [[int(length) for length in re.findall(r"iov_len=(\d+)", line)]
             for line in trace.read_text().splitlines() if " sendmsg(" in line]
    expect(calls, "expected sendmsg() to be what writes to the network")
    return calls


def try_guest(case: Case):
    try:
        return guest_on_path(case.path("vm.sock"), case.path("guest.sock"))
    except OSError:
        return None


@needs("strace")
def header_and_frame_are_written_together_within_write_batch(case: Case):
    size = 2500  # in two parts
    calls = written_calls(case, "16K", [size])
    for parts in calls:
        expect_equal("bytes beyond whole frames", sum(parts) % (4 + size), 0)
        expect(sum(parts) <= 16384, f"expected 16384 bytes at most: {parts}")
    expect(max(map(sum, calls)) > 8192, "expected calls to be filled")


@needs("strace")
def write_batch_zero_writes_one_frame_a_call(case: Case):
    for parts in written_calls(case, "0", [100]):
        expect_equal("a call's bytes", sum(parts), 104)


@needs("strace")
def frame_larger_than_write_batch_is_written_alone_and_whole(case: Case):
    for parts in written_calls(case, "1K", [3000, 60]):
        expect(sum(parts) == 3004 or sum(parts) <= 1024,
               f"expected a large frame to be alone: {parts}")


@needs()
def nothing_but_the_guests_own_frames_and_its_announcement_is_ever_sent(
        case: Case):
    """No probe unasked, no address of the forwarder's own."""
    bridge = Bridge(case, ["keepalive.interval=100ms", "reconnect.max=200ms"])
    for generation in range(5):
        connection = bridge.meet()
        if generation == 0:
            wait_for("the generation to be an old one", lambda: bridge.status()
                     ["uptime_ms"] > 1500)
        bridge.guest.send(frame(1))
        seen = []
        while not seen or seen[-1] != frame(1):
            seen.append(connection.next_any())
        for one in seen:
            expect(is_announcement(one) or one == frame(1),
                   f"expected no frame but the guest's: {one.hex()}")
        connection.close()


# --- connections --------------------------------------------------------------

def accepted_within(daemon: FakeDaemon, seconds: float, greeting: bytes) -> int:
    """Says the greeting to whoever dials, and closes."""
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
                                       in bridge.log_lines("warn link:")],
                 ["warn link: lost",
                  "warn link: closed before any sign of life"])
    expect_equal("outages", bridge.status()["network"]["outages"], 1)


@needs()
def peer_that_only_accepts_and_closes_is_not_left_in_the_log_as_up(case: Case):
    bridge = Bridge(case)
    accepted_within(bridge.daemon, 1, b"")
    wait_for("the end", lambda: bridge.status()["network"]["state"] == "down")
    ups = bridge.log_lines("info link: up")
    ends = [line for line in bridge.log_lines("warn ")
            if "closed before any sign of life" in line]
    expect(len(ups) == len(ends) == 1,
           f"expected one line for up and one for its end, found {ups} {ends}")
    network = bridge.status()["network"]
    expect_equal("outages", network["outages"], 0)
    expect_equal("last outage", network["last_outage_ms"], 0)


@needs()
def peer_that_greets_and_dies_is_not_dialled_more_than_every_ten_milliseconds(
        case: Case):
    bridge = Bridge(case, ["log.level=info"])
    bridge.meet().close()
    count = accepted_within(bridge.daemon, 2, framed(frame(1)))
    expect(count <= 202, f"expected at most 200 dials, found {count}")
    lines = bridge.log_lines("")
    expect(len(lines) < 100, f"expected few lines, found {len(lines)}")


@needs()
def path_that_changes_all_the_time_is_not_dialled_all_the_time(case: Case):
    """A datagram socket: a dial fails at once, and isn't repeated."""
    path = case.path("net.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wrong:
        wrong.bind(str(path))
        bridge = Bridge(case, ["log.level=info"], daemon_runs=False)
        bridge.wait_for_line("info link: waiting for the daemon")
        before = bridge.status()["network"]["dials"]
        started = time.monotonic()
        while time.monotonic() - started < 1:
            path.chmod(0o700)
            path.chmod(0o600)
        dials = bridge.status()["network"]["dials"] - before
        seconds = time.monotonic() - started
    expect(dials <= 110 * seconds + 5,
           f"expected a dial every 10 ms, found {dials} in {seconds:.2f} s")


@needs()
def frozen_daemon_costs_no_frame_once_it_thaws(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    bridge.guest.send(frame(0))
    expect_equal("first frame", number_of(connection.next()), 0)
    daemon = case.own(Child(count_frames, connection))
    daemon.signal(signal.SIGSTOP)
    case.own(Child(flood, bridge.guest, 20000, [1514]))
    stable = frames_until_they_stop(bridge)
    expect_equal("state", bridge.status()["network"]["state"], "up")
    daemon.signal(signal.SIGCONT)
    wait_for("frames beyond those that were stuck",
             lambda: bridge.status()[UP]["frames"] > 2 * stable)
    wait_for("the daemon to have read them",
             lambda: last_number(daemon.hear()) > 2 * stable)
    expect(b"!" not in daemon.hear(), "expected no frame to be missing")
    expect_equal("outages", bridge.status()["network"]["outages"], 0)


def count_frames(tell, connection: Connection) -> None:
    """Reads; tells each number, and an exclamation mark for a wrong one."""
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


def frames_until_they_stop(bridge: Bridge) -> int:
    """How many frames went before the network took no more."""
    seen = [-1]

    def stopped() -> bool:
        now = bridge.status()[UP]["frames"]
        same = now == seen[-1] and now > 1
        seen.append(now)
        return same and len(set(seen[-4:])) == 1
    wait_for("the network to take no more", stopped)
    return seen[-1]


@needs()
def full_backlog_is_told_and_tried_again_until_there_is_room(case: Case):
    daemon = FakeDaemon(case.path("net.sock"))
    daemon.bind()
    daemon.listen(0)
    fillers = fill_backlog(daemon.path)
    bridge = Bridge(case, daemon=daemon)
    wait_for("the full backlog to be told", lambda: any(
        "backlog is full" in line
        for line in bridge.log_lines("debug link: dial failed")))
    expect_equal("state", bridge.status()["network"]["state"], "down")
    for filler in fillers:
        filler.close()
    while True:  # those who were there before, and left
        connection = case.own(daemon.accept())
        bridge.guest.send(frame(1))
        try:
            expect_equal("frame", number_of(connection.next()), 1)
            return
        except OSError:
            pass
        except Exception as error:
            expect("end of the connection" in str(error), str(error))


@needs()
def daemon_that_leaves_us_in_its_backlog_gets_all_once_it_accepts(case: Case):
    bridge = Bridge(case)
    bridge.wait_until("up")
    bridge.guest.send(*(frame(number) for number in range(50)))
    wait_for("the frames to be written",
             lambda: bridge.status()[UP]["frames"] == 50)
    expect_equal("frames", numbers(bridge.accept().take(50)), list(range(50)))


@needs()
def reset_of_a_tcp_connection_is_one_outage(case: Case):
    bridge = Bridge(case, daemon=FakeDaemon().start())
    bridge.meet().reset()
    bridge.meet()
    expect_equal("outages", bridge.status()["network"]["outages"], 1)
    expect_equal("warnings", len(bridge.log_lines("warn link: lost")), 1)


@needs()
def descriptor_that_was_closed_is_never_written_to_under_another_owner(
        case: Case):
    """Connections to the control socket take the numbers that broken network
    connections leave; a frame among what they read would be a stranger's."""
    bridge = Bridge(case, ["log.level=error"])
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 20000, [1514]))
    for _ in range(100):
        connection.send(frame(1))
        connection.take(5)
        connection.close()
        strangers = [ask(bridge.forwarder.control) for _ in range(3)]
        for stranger in strangers:
            answer = read_all(stranger)
            expect(answer == b""  # it asked too late, and lost its turn
                   or answer.startswith(b'{"version":') and answer.isascii(),
                   f"expected nothing but the status, found {answer!r}")
        connection = bridge.accept()


def ask(path: Path) -> socket.socket:
    asker = socket.socket(socket.AF_UNIX)
    asker.settimeout(10)
    asker.connect(str(path))
    asker.sendall(b"status json\n")
    return asker


def read_all(stream: socket.socket) -> bytes:
    answer = b""
    with stream:
        while more := stream.recv(65536):
            answer += more
    return answer


# --- one that can't take the longest frames -----------------------------------

@needs()
def frame_longer_than_socket_vmnet_takes_is_dropped_where_that_is_configured(
        case: Case):
    """It aborts, for every machine, over 65,536 bytes."""
    bridge = Bridge(case, ["network.max_frame=65536"])
    connection = bridge.meet()
    longest = frame(1, 65536)
    bridge.guest.send(longest, frame(2, 65537), frame(3))
    expect(connection.next() == longest, "expected 65536 bytes to go out")
    expect_equal("frame after it", number_of(connection.next()), 3)
    bridge.wait_for_drops(UP, "oversize", 1)


# --- our own end --------------------------------------------------------------

class NamingGuest(FakeGuest):
    """Names its receiver with each frame, as QEMU does; other guests connect
    their socket."""

    def __init__(self, path: Path, forwarder_path: Path) -> None:
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
                         path)
        self.socket.bind(str(path))
        self.forwarder_path = str(forwarder_path)

    def send(self, *frames: bytes) -> None:
        for one in frames:
            self.socket.sendto(one, self.forwarder_path)


def kill_forwarder(bridge: Bridge) -> None:
    bridge.forwarder.process.kill()
    try:
        bridge.guest.send(frame(99))
    except ConnectionRefusedError:
        return
    expect(False, "expected nobody to take the guest's frames")


def start_forwarder_again(case: Case, bridge: Bridge) -> Connection:
    """On the same paths, where it finds what the killed one left."""
    bridge.forwarder = case.own(Forwarder(
        case.folder, bridge.daemon.endpoint, f"unixgram:{bridge.guest_path}"))
    return bridge.accept()


def expect_both_ways(guest: FakeGuest, connection: Connection,
                     number: int) -> None:
    guest.send(frame(number))
    expect_equal("frame out", number_of(connection.next()), number)
    connection.send(frame(number + 1))
    expect_equal("frame in", number_of(guest.receive()), number + 1)


@needs()
def guest_that_names_its_receiver_keeps_its_socket_over_our_death(case: Case):
    bridge = Bridge(case)
    bridge.guest.remove()
    bridge.guest = case.own(NamingGuest(case.path("naming.sock"),
                                        bridge.guest_path))
    connection = bridge.accept()
    for number in range(10, 40, 10):
        expect_both_ways(bridge.guest, connection, number)
        kill_forwarder(bridge)
        connection.close()
        connection = start_forwarder_again(case, bridge)
    expect_both_ways(bridge.guest, connection, 90)


@needs()
def guest_that_is_connected_keeps_its_socket_if_it_connects_it_again(
        case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    for number in range(10, 40, 10):
        expect_both_ways(bridge.guest, connection, number)
        kill_forwarder(bridge)
        connection.close()
        connection = start_forwarder_again(case, bridge)
        bridge.guest.socket.connect(str(bridge.guest_path))
    expect_both_ways(bridge.guest, connection, 90)


def start_on_descriptor(case: Case, daemon: FakeDaemon, far: socket.socket
                        ) -> tuple[Process, Connection]:
    process = case.own(Process(
        command_line(case.path("control.sock"), daemon.endpoint,
                     f"fd:{far.fileno()}"), case.path("forwarder.log"),
        pass_fds=[far.fileno()]))
    return process, case.own(daemon.accept())


@needs()
def descriptor_that_another_keeps_outlives_our_stop_and_our_death(case: Case):
    """A shutdown() would break it for whoever else has it: a descriptor store,
    a launcher, the next forwarder."""
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    guest, far = guest_pair()
    case.own(guest)
    case.own(far)
    guest.send(frame(9))
    for number in range(10, 70, 10):
        process, connection = start_on_descriptor(case, daemon, far)
        expect_equal("frame that waited", number_of(connection.next()),
                     number - 1)
        expect_both_ways(guest, connection, number)
        if number % 20:
            expect_equal("exit status", process.terminate(1), 0)
        else:
            process.kill()
        connection.close()
        far.send(frame(5))  # whoever kept it can still use it
        expect_equal("frame of another holder", number_of(guest.receive()), 5)
        guest.send(frame(number + 9))
