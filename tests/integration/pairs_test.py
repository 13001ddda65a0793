"""Every kind of guest with every kind of network. The network's side ends
five times and the guest restarts, if it can, all under traffic in both
directions; then every frame is accounted for.

A kind is a row of one of the two tables at the end, and a class: how its side
starts and ends. Its socket is always one of this process, so that a frame that
nobody has read yet can still be read after its owner has ended."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Callable, Optional

from forwarder import SHORT, Forwarder
from harness import (SECONDS, Case, Namespace, Process, expect, expect_equal,
                     needs, wait_for, wait_until)
from peers import (Deframer, bound_guest, frame, framed, is_announcement,
                   number_of)

# Frames that may be on their way in one direction, and when nobody reads: more
# than sockets hold, but fewer than a device does.
WINDOW = 64
MANY = 400
# When a direction has stood still so long, those have been dropped.
STILL_SECONDS = 0.1
SIZES = [60, 64, 100, 590, 1514]
LOOPBACK = "127.0.0.1"
ETH_P_ALL, SOL_PACKET, PACKET_IGNORE_OUTGOING = 3, 263, 23


# --- one side's socket --------------------------------------------------------

class Datagrams:
    """One frame each. Neither call waits."""

    def __init__(self, datagrams: socket.socket) -> None:
        datagrams.setblocking(False)
        self.socket = datagrams

    def send(self, one: bytes) -> bool:
        try:
            return self.socket.send(one) > 0
        except (BlockingIOError, ConnectionError, PermissionError):
            return False  # full, or the forwarder has not let us in yet

    def receive(self) -> list[bytes]:
        frames = []
        try:
            while one := self.socket.recv(131072):
                frames.append(one)
        except (BlockingIOError, ConnectionError):
            pass
        return frames

    def close(self) -> None:
        self.socket.close()


class Answering(Datagrams):
    """A daemon's on a path: its client is whoever says VFKT."""

    def __init__(self, datagrams: socket.socket) -> None:
        hello, client = datagrams.recvfrom(100)
        expect_equal("what comes first", hello, b"VFKT")
        datagrams.connect(client)
        super().__init__(datagrams)


class Stream:
    """The same with a length before each frame."""

    def __init__(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        self.socket = stream
        self.deframer = Deframer()

    def send(self, one: bytes) -> bool:
        data = framed(one)
        if not select.select([], [self.socket], [], 0)[1]:
            return False  # there may be room for a part of it
        try:
            expect_equal("bytes sent", self.socket.send(data), len(data))
            return True
        except ConnectionError:
            return False

    def receive(self) -> list[bytes]:
        frames = []
        try:
            while data := self.socket.recv(262144):
                frames += self.deframer.feed(data)
        except (BlockingIOError, ConnectionError):
            pass
        return frames

    def leave(self) -> None:
        """The other end will find the end, but can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()


# --- a direction --------------------------------------------------------------

class Direction:
    """Numbered frames, and what became of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent = self.last = 0
        self.limit = WINDOW
        self.moved = 0.0
        self.missing: set[int] = set()
        self.inside: set[int] = set()  # perhaps, of what died
        self.uncounted = 0  # at most

    def send(self, side) -> None:
        while self.sent < self.limit and side.send(
                frame(self.sent + 1, SIZES[self.sent % len(SIZES)])):
            self.sent += 1

    def go_on(self, count: int = WINDOW) -> None:
        """Lets so many more be sent, as some before them may never arrive."""
        self.limit = self.sent + count
        self.moved = time.monotonic()

    def go_on_if_still(self) -> None:
        if time.monotonic() - self.moved > STILL_SECONDS:
            self.go_on()

    def take(self, frames: list[bytes]) -> None:
        """They must be unchanged, in order, and none twice."""
        for number in map(number_of, itertools.filterfalse(
                is_announcement, frames)):
            expect(self.last < number <= self.sent, f"{self.name}: expected a"
                   f" frame after {self.last}, found {number}")
            self.missing.update(range(self.last + 1, number))
            self.last = number
            self.limit = max(self.limit, number + WINDOW)
            self.moved = time.monotonic()

    def lose(self, discarded: bool = False) -> None:
        """An end died, unread: nobody knows what of all that is on its way was
        in it. What the kernel has discarded, the forwarder can't count."""
        on_its_way = range(self.last + 1, self.sent + 1)
        self.inside.update(on_its_way)
        self.uncounted += len(on_its_way) if discarded else 0

    def is_accounted(self, counters: dict) -> bool:
        dropped = sum(counters["drops"].values())
        counted = counters["frames"] + dropped
        return (self.sent - self.uncounted <= counted <= self.sent
                and len(self.missing - self.inside) <= dropped)

    def __str__(self) -> str:
        return (f"{self.sent} frames {self.name}, the last received is"
                f" {self.last}, {len(self.missing)} missing,"
                f" {len(self.missing & self.inside)} of them perhaps inside"
                " what died")


# --- where both are -----------------------------------------------------------

SOCKET_MAKER = """
import socket
requests = socket.socket(fileno=0)
while request := requests.recv(100):
    with socket.socket(*map(int, request.split())) as made:
        socket.send_fds(requests, [b"."], [made.fileno()])
"""


class Here:
    namespace: Optional[Namespace] = None
    socket = staticmethod(socket.socket)


class Elsewhere:
    """A namespace in which sockets can be made without entering it."""

    def __init__(self, case: Case) -> None:
        self.namespace = case.own(Namespace())
        self.namespace.ip("link set lo up")
        self.requests, far = socket.socketpair()
        case.own(self.requests)
        self.requests.settimeout(SECONDS)
        with far:
            case.own(Process(
                self.namespace.enter(sys.executable, "-ISc", SOCKET_MAKER),
                case.path("sockets.log"), stdin=far))

    def socket(self, family: int, kind: int, protocol: int = 0
               ) -> socket.socket:
        self.requests.send(b"%d %d %d" % (family, kind, protocol))
        _, fds, _, _ = socket.recv_fds(self.requests, 1, 1)
        return socket.socket(fileno=fds[0])


# --- guests -------------------------------------------------------------------

class Guest:
    """start() once the forwarder runs. One that can restart() leaves so that
    what it has not read can still be read, or dies with it; it returns its new
    end."""

    host: object = Here()
    process: dict = {}
    restarts = False
    # It has no way to leave, and what it has sent may be discarded with it.
    discards = False
    # A device takes all that it is sent.
    may_be_full = True

    def start(self):
        raise NotImplementedError


class Descriptor(Guest):
    kind, side = socket.SOCK_DGRAM, Datagrams

    def __init__(self, case: Case) -> None:
        self.near, self.far = map(
            case.own, socket.socketpair(socket.AF_UNIX, self.kind))
        self.endpoint = f"fd:{self.far.fileno()}"
        self.process = {"pass_fds": [self.far.fileno()]}

    def start(self):
        self.far.close()
        return self.side(self.near)


class StreamDescriptor(Descriptor):
    kind, side = socket.SOCK_STREAM, Stream


class OnPath(Guest):
    restarts = discards = True

    def __init__(self, case: Case) -> None:
        self.case = case
        self.path, self.own_path = case.path("guest.sock"), case.path("vm.sock")
        self.endpoint = f"unixgram:{self.path}"

    def start(self) -> Datagrams:
        self.own_path.unlink(missing_ok=True)
        datagrams = self.case.own(bound_guest(self.own_path)).socket

        def is_let_in() -> bool:
            try:
                datagrams.connect(str(self.path))
                return True
            except PermissionError:  # it still has the guest before us
                return False
        wait_for("the guest to be let in", is_let_in)
        return Datagrams(datagrams)

    def restart(self, side: Datagrams, dies: bool) -> Datagrams:
        side.close()  # a datagram guest has no way to say goodbye
        return self.start()


class Calling(Guest):
    restarts = True

    def __init__(self, case: Case) -> None:
        self.case, self.path = case, case.path("guest.sock")
        self.endpoint = f"listen-unix:{self.path}"

    def start(self) -> Stream:
        stream = self.case.own(socket.socket(socket.AF_UNIX))
        stream.connect(str(self.path))
        return Stream(stream)

    def restart(self, side: Stream, dies: bool) -> Stream:
        side.close() if dies else side.leave()
        return self.start()


class Tap(Guest):
    may_be_full = False

    def __init__(self, case: Case) -> None:
        self.case, self.host = case, Elsewhere(case)
        self.host.namespace.ip("tuntap add dev vm0 mode tap")
        # No frames of the kernel's own.
        self.host.namespace.ip("link set vm0 addrgenmode none")
        self.host.namespace.ip("link set vm0 up")
        self.endpoint = "tap:vm0"

    def start(self) -> Datagrams:
        packets = self.case.own(self.host.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)))
        packets.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        packets.bind(("vm0", ETH_P_ALL))
        return Datagrams(packets)


# --- networks -----------------------------------------------------------------

class Network:
    """A daemon that starts, meets the forwarder, and ends: it leaves so that
    what it has not read can still be read, or dies with it."""

    # With a dead end, the kernel discards what that has sent, unless it was
    # received before: after a reset, and when a datagram can't be sent to it.
    discards = False
    # It takes what is sent before the reset arrives.
    takes_after_end = False

    def __init__(self, case: Case, host) -> None:
        self.case, self.host = case, host

    def start(self) -> None:
        pass

    def meet(self):
        """Its end of the next connection."""
        raise NotImplementedError

    def leave(self, side) -> None:
        side.leave()

    def die(self, side) -> None:
        side.close()

    def stop(self) -> None:
        """Before it leaves for a longer time."""


class Listening(Network):
    """It listens; the forwarder connects."""

    family = socket.AF_UNIX

    def __init__(self, case: Case, host) -> None:
        super().__init__(case, host)
        self.address = str(case.path("net.sock"))
        self.endpoint = f"unix:{self.address}"

    def start(self) -> None:
        Path(self.address).unlink(missing_ok=True)
        self.listen()

    def listen(self) -> None:
        self.listener = self.case.own(
            self.host.socket(self.family, socket.SOCK_STREAM))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(self.address)
        self.listener.listen()
        self.listener.settimeout(SECONDS)

    def meet(self) -> Stream:
        return Stream(self.case.own(self.listener.accept()[0]))

    def die(self, side: Stream) -> None:
        self.stop()
        super().die(side)
        self.start()

    def stop(self) -> None:
        self.listener.close()


class Tcp(Listening):
    family = socket.AF_INET
    discards = takes_after_end = True

    def __init__(self, case: Case, host) -> None:
        Network.__init__(self, case, host)
        self.address = (LOOPBACK, 0)
        self.listen()
        self.address = self.listener.getsockname()
        self.endpoint = "tcp:%s:%d" % self.address

    def start(self) -> None:
        self.stop()
        self.listen()


class Client(Network):
    """It connects; the forwarder listens."""

    family = socket.AF_UNIX

    def __init__(self, case: Case, host) -> None:
        super().__init__(case, host)
        self.address = str(case.path("net.sock"))
        self.endpoint = f"listen-unix:{self.address}"

    def meet(self) -> Stream:
        stream = self.case.own(
            self.host.socket(self.family, socket.SOCK_STREAM))
        stream.connect(self.address)
        return Stream(stream)


class TcpClient(Client):
    family = socket.AF_INET
    discards = takes_after_end = True

    def __init__(self, case: Case, host) -> None:
        Network.__init__(self, case, host)
        with host.socket(self.family, socket.SOCK_STREAM) as free:
            free.bind((LOOPBACK, 0))
            self.address = free.getsockname()
        self.endpoint = "listen-tcp:%s:%d" % self.address


class OnOwnPath(Network):
    """It waits for datagrams."""

    discards = True

    def __init__(self, case: Case, host) -> None:
        super().__init__(case, host)
        self.path = case.path("net.sock")
        self.endpoint = f"unixgram:{self.path}"

    def start(self) -> None:
        self.stop()
        self.next = self.case.own(
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.next.bind(str(self.path))
        self.next.settimeout(SECONDS)

    def stop(self) -> None:
        self.path.unlink(missing_ok=True)

    def meet(self) -> Answering:
        return Answering(self.next)

    def leave(self, side: Answering) -> None:
        """Its file is replaced; or has gone, and it takes no more."""
        if self.path.exists():
            self.start()
        else:
            side.socket.shutdown(socket.SHUT_RD)

    def die(self, side: Answering) -> None:
        side.close()
        self.start()


class Exec(Network):
    """The forwarder starts it. It gives its socket to us, too."""

    prefix, place, kind, end = "exec", "{fd}", socket.SOCK_STREAM, Stream
    PROGRAM = f"""#!{sys.executable} -IS
import socket, sys
giver = socket.socket(socket.AF_UNIX)
giver.connect(sys.argv[1])
if sys.argv[2].isdigit():
    given = socket.socket(fileno=int(sys.argv[2]))
else:
    given = socket.socket(socket.AF_UNIX, int(sys.argv[3]))
    given.bind(sys.argv[2])
    if given.type == socket.SOCK_STREAM:
        given.listen()
socket.send_fds(giver, [b"."], [given.fileno()])
giver.recv(1)
"""

    def __init__(self, case: Case, host) -> None:
        super().__init__(case, host)
        self.program, self.absent = case.path("daemon"), case.path("absent")
        self.absent.write_text(self.PROGRAM)
        self.absent.chmod(0o755)
        given = case.path("given.sock")
        self.given = case.own(socket.socket(socket.AF_UNIX))
        self.given.bind(str(given))
        self.given.listen()
        self.given.settimeout(SECONDS)
        self.endpoint = (f"{self.prefix}:{self.program} {given} {self.place}"
                         f" {int(self.kind)}")

    def start(self) -> None:
        self.absent.rename(self.program)

    def stop(self) -> None:
        """The next one cannot be started."""
        self.program.rename(self.absent)

    def take(self) -> socket.socket:
        self.giver = self.case.own(self.given.accept()[0])
        self.giver.settimeout(SECONDS)
        _, fds, _, _ = socket.recv_fds(self.giver, 1, 1)
        given = self.case.own(socket.socket(fileno=fds[0]))
        given.settimeout(SECONDS)
        return given

    def meet(self):
        return self.end(self.take())

    def leave(self, side) -> None:
        os.kill(self.forwarder.value("network.daemon.pid"), signal.SIGKILL)

    def die(self, side) -> None:
        side.close()
        self.leave(side)
        self.giver.recv(1)  # until it has no socket any more


class ExecDatagrams(Exec):
    prefix, kind, end = "exec-dgram", socket.SOCK_DGRAM, Datagrams
    discards = True


class ExecListening(Exec):
    place = "{socket}"

    def meet(self) -> Stream:
        with self.take() as listener:
            return Stream(self.case.own(listener.accept()[0]))


class ExecOnPath(ExecDatagrams):
    place, end = "{socket}", Answering


# --- a pair -------------------------------------------------------------------

class Pair:
    """A guest, a forwarder, a network, and the frames between them. Ends that
    left are kept, as they may have frames that nobody has read."""

    def __init__(self, case: Case, guest: Guest, network: Network) -> None:
        self.guest, self.network = guest, network
        self.up, self.down = Direction("up"), Direction("down")
        self.old_vms: list = []
        self.old_daemons: list = []
        network.start()
        self.forwarder = Forwarder(
            case, network.endpoint, guest.endpoint,
            ["network.hold=100ms", "network.write_batch=4K",
             "network.send_buffer=16K", "guest.stall=10ms"],
            host=guest.host.namespace, **guest.process)
        network.forwarder = self.forwarder
        self.vm = guest.start()
        self.daemon = network.meet()

    def pass_frames(self, send: bool = True) -> None:
        """All that goes without waiting. What an end that left has not read is
        older than what its successor has, so the successor is read first."""
        for direction, end, old in ((self.up, self.daemon, self.old_daemons),
                                    (self.down, self.vm, self.old_vms)):
            frames = end.receive()
            for one in old:
                if one is not end:  # it has a successor
                    direction.take(one.receive())
            direction.take(frames)
        for direction, end in ((self.up, self.vm), (self.down, self.daemon)):
            if send:
                direction.go_on_if_still()
                direction.send(end)

    def exchange(self, count: int) -> None:
        """Until all have arrived that will, and so many more, each way; others
        are on their way."""
        goals = [(way, way.sent + count) for way in (self.up, self.down)]

        def arrived() -> bool:
            self.pass_frames()
            return all(way.last >= goal for way, goal in goals)
        self.pass_until(f"{count} frames in both directions", arrived)

    def pass_until(self, what: str, done: Callable[[], bool]) -> None:
        sockets = [self.vm.socket, self.daemon.socket]
        deadline = time.monotonic() + SECONDS
        while not done():
            expect(time.monotonic() < deadline,
                   f"expected {what}: {self.up}; {self.down}")
            select.select(sockets, [], [], STILL_SECONDS)

    def fill(self) -> None:
        """Until nothing moves, as nobody reads."""
        sending = [(self.up, self.vm)]
        if self.guest.may_be_full:
            sending.append((self.down, self.daemon))
        seen: list = [None]

        def stands_still() -> bool:
            for direction, end in sending:
                direction.send(end)
            status = self.forwarder.status()
            seen.append((self.up.sent, self.down.sent, *(
                status[name] for name in SHORT.values())))
            return seen[-1] == seen[-2]
        for direction, _ in sending:
            direction.go_on(MANY)
        wait_for("frames to stand still", stands_still)

    # --- ends ---

    def restart_guest(self, dies: bool) -> None:
        if not self.guest.restarts:
            return
        if dies or self.guest.discards:
            self.down.lose()
            self.up.lose(self.guest.discards)
        else:
            self.old_vms.append(self.vm)
        self.vm = self.guest.restart(self.vm, dies)
        self.go_on()

    def end_network(self, dies: bool) -> None:
        """Frames from the guest follow."""
        if dies:
            self.up.lose()
            self.down.lose(self.network.discards)
            self.network.die(self.daemon)
        else:
            self.old_daemons.append(self.daemon)
            self.network.leave(self.daemon)
        self.go_on()
        self.up.send(self.vm)
        if dies and self.network.takes_after_end:
            self.up.lose()

    def meet_network(self) -> None:
        self.daemon = self.network.meet()
        self.forwarder.until("network.state", "up")
        self.go_on()

    def go_on(self) -> None:
        self.up.go_on()
        self.down.go_on()

    def until_dropped(self) -> None:
        """The outage is longer than `hold`."""
        def is_dropped() -> bool:
            self.pass_frames(send=False)
            self.up.go_on(16)
            self.up.send(self.vm)
            return self.forwarder.value("up.drops.outage") > 0
        wait_for("frames to be dropped", is_dropped)

    def expect_accounted(self) -> None:
        def complete() -> bool:
            self.pass_frames(send=False)
            return all(way.last == way.sent for way in (self.up, self.down))
        self.pass_until("the last frames", complete)
        for way in (self.up, self.down):
            wait_until(str(way), lambda: self.forwarder.value(way.name),
                       way.is_accounted)
            print("   ", way)


def account_for_every_frame(case: Case, guest_kind: type, network_kind: type
                            ) -> None:
    dice = random.Random(1)
    guest = guest_kind(case)
    network = network_kind(case, guest.host)
    pair = Pair(case, guest, network)
    for dies, full in itertools.product((False, True), repeat=2):
        for end in (pair.restart_guest, pair.end_network):
            pair.exchange(dice.randrange(1, 300))
            if full:
                pair.fill()
            end(dies)
        pair.meet_network()
    pair.exchange(dice.randrange(1, 300))
    network.stop()
    pair.end_network(False)
    pair.until_dropped()
    pair.restart_guest(False)
    network.start()
    pair.meet_network()
    pair.exchange(dice.randrange(1, 300))
    pair.expect_accounted()
    expect_equal("outages", pair.forwarder.value("network.outages"), 5)


# --- the tables ---------------------------------------------------------------

GUESTS = {"fd": Descriptor, "fd_stream": StreamDescriptor,
          "unixgram": OnPath, "listen_unix": Calling, "tap": Tap}
NETWORKS = {"unix": Listening, "unixgram": OnOwnPath, "tcp": Tcp,
            "listen_unix": Client, "listen_tcp": TcpClient,
            "exec_fd": Exec, "exec_socket": ExecListening,
            "exec_dgram_fd": ExecDatagrams, "exec_dgram_socket": ExecOnPath}


def declare(guest: str, network: str) -> Callable[[Case], None]:
    @needs(*(["namespaces", "tun"] if guest == "tap" else []))
    def test(case: Case) -> None:
        account_for_every_frame(case, GUESTS[guest], NETWORKS[network])
    return test


for each, other in itertools.product(GUESTS, NETWORKS):
    globals()[f"every_frame_is_accounted_for_between_{each}_and_{other}"] = \
        declare(each, other)
