"""Stand-ins for guest and daemon that can also misbehave, and Bridge, a
forwarder between the two.

A frame is bytes. send() and expect() also take a number N for frame(N)."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Callable, Optional, Sequence, Union

from forwarder import Forwarder, run_forwarder
from harness import (FORWARDER, NEEDS, SECONDS, Case, Failure,
                     die_with_parent, expect, expect_equal, lacks_program)

# Locally administered, as a virtual machine's own.
MAC = bytes.fromhex("525400123456")
BROADCAST = b"\xff" * 6
IPV4 = 0x0800
RARP = 0x8035
HEADER_BYTES = 4
MIN_FRAME_BYTES = 14
NUMBERED_BYTES = MIN_FRAME_BYTES + 8
PATTERN = bytes(range(251)) * 280
NOBODY = 65534

Frame = Union[bytes, int]


def lacks_plain_build() -> Optional[str]:
    """Memory and processor time mean nothing under a sanitizer."""
    image = Path(FORWARDER).read_bytes()
    for name in (b"__asan_init", b"__tsan_init", b"__ubsan_handle"):
        if name in image:
            return "a forwarder built without a sanitizer"
    return None


def lacks_root() -> Optional[str]:
    return None if os.geteuid() == 0 else "root"


def lacks_trace() -> Optional[str]:
    """strace of a process that runs already."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return ("kernel.yama.ptrace_scope=0" if os.geteuid() != 0
            and scope.exists() and scope.read_text() != "0\n" else None)


NEEDS["strace"] = lacks_program("strace", "strace")
NEEDS["trace"] = lacks_trace
NEEDS["plain-build"] = lacks_plain_build
NEEDS["root"] = lacks_root


# --- frames -------------------------------------------------------------------

def raw_frame(payload: bytes = b"", ether_type: int = IPV4,
              source: bytes = MAC, target: bytes = BROADCAST) -> bytes:
    return target + source + struct.pack("!H", ether_type) + payload


def frame(number: int, size: int = 60, source: bytes = MAC) -> bytes:
    """A frame with its number and a pattern that reveals any change."""
    start = number % 251
    head = raw_frame(struct.pack("!Q", number), source=source)
    return head + PATTERN[start:start + size - len(head)]


def number_of(received: bytes) -> int:
    """The number of a frame made by frame(), which is still as it was."""
    number, = struct.unpack_from("!Q", received, MIN_FRAME_BYTES)
    start = number % 251
    expect(received[NUMBERED_BYTES:]
           == PATTERN[start:start + len(received) - NUMBERED_BYTES],
           f"expected frame {number} to be unchanged")
    return number


def numbers(frames: Sequence[bytes]) -> list[int]:
    return [number_of(one) for one in frames]


def is_announcement(received: bytes) -> bool:
    return received[12:14] == struct.pack("!H", RARP)


def header(length: int) -> bytes:
    return struct.pack("!I", length)


def framed(*frames: bytes) -> bytes:
    return b"".join(header(len(one)) + one for one in frames)


class Deframer:
    """Takes a stream apart into frames. A wrong length fails the test."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        data = self.rest + data
        frames, at = [], 0
        while len(data) - at >= HEADER_BYTES:
            length, = struct.unpack_from("!I", data, at)
            expect(MIN_FRAME_BYTES <= length <= 69632,
                   f"expected whole frames, found one of {length} bytes")
            if len(data) - at - HEADER_BYTES < length:
                break
            at += HEADER_BYTES + length
            frames.append(data[at - length:at])
        self.rest = data[at:]
        return frames


def made(one: Frame) -> bytes:
    return frame(one) if isinstance(one, int) else one


def expect_frame(found: bytes, wanted: Frame) -> None:
    """Returns the number; the rest of the frame must be as frame() made it."""
    if isinstance(wanted, int):
        expect_equal("frame", number_of(found), wanted)
    else:
        expect(found == wanted, f"expected {wanted[:80].hex(' ')}"
               f" ({len(wanted)} bytes), found {found[:80].hex(' ')}"
               f" ({len(found)} bytes)")


# --- the network's side -------------------------------------------------------

class Connection:
    """One client of a stand-in daemon: a generation, seen from there."""

    def __init__(self, stream: socket.socket) -> None:
        stream.settimeout(SECONDS)
        self.socket = stream
        self.deframer = Deframer()
        self.waiting: list[bytes] = []

    def send(self, *frames: Frame) -> None:
        self.socket.sendall(framed(*map(made, frames)))

    def read(self) -> list[bytes]:
        """The frames that the next piece completes; raises at the end."""
        data = self.socket.recv(262144)
        expect(data, "expected frames, found the end of the connection")
        return self.deframer.feed(data)

    def next_any(self) -> bytes:
        while not self.waiting:
            self.waiting += self.read()
        return self.waiting.pop(0)

    def next(self) -> bytes:
        """The next frame that isn't an announcement."""
        while True:
            received = self.next_any()
            if not is_announcement(received):
                return received

    def expect(self, *frames: Frame) -> None:
        for one in frames:
            expect_frame(self.next(), one)

    def expect_end(self) -> None:
        """The forwarder gave this generation up."""
        try:
            while self.socket.recv(262144):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise Failure("expected the connection to end")

    def drain_after_death(self) -> list[bytes]:
        """Ends like a killed process, but returns what it had not read."""
        self.socket.shutdown(socket.SHUT_RDWR)
        frames = list(self.waiting)
        try:
            while data := self.socket.recv(262144):
                frames += self.deframer.feed(data)
        except ConnectionResetError:  # it closed with bytes of ours unread
            pass
        self.close()
        return frames

    def close(self) -> None:
        self.socket.close()


class FakeDaemon:
    """Listens on a Unix path, or on a port of the loopback."""

    def __init__(self, path: Optional[Path] = None,
                 host: str = "127.0.0.1") -> None:
        self.path = path
        self.host = host
        self.port = 0
        self.listener: Optional[socket.socket] = None

    @property
    def endpoint(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}"

    def bind(self) -> None:
        if self.path:
            self.path.unlink(missing_ok=True)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.path))
        else:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            self.listener = socket.socket(family)
            self.listener.setsockopt(socket.SOL_SOCKET,
                                     socket.SO_REUSEADDR, 1)
            self.listener.bind((self.host, self.port))
            self.port = self.listener.getsockname()[1]
        self.listener.settimeout(SECONDS)

    def listen(self, backlog: int = 16) -> None:
        self.listener.listen(backlog)

    def start(self) -> FakeDaemon:
        self.bind()
        self.listen()
        return self

    def accept(self) -> Connection:
        try:
            return Connection(self.listener.accept()[0])
        except TimeoutError:
            raise Failure("expected the forwarder to dial")

    def stop(self) -> None:
        """Its socket file stays, as that of a killed process."""
        if self.listener:
            self.listener.close()
            self.listener = None

    close = stop


def exchange_over_restarts(daemon: FakeDaemon) -> None:
    """With a command that sends every frame back."""
    for number in range(1, 6):
        daemon.start()
        connection = daemon.accept()
        connection.send(number)
        connection.expect(number)
        daemon.stop()
        connection.close()


# --- the guest's side ---------------------------------------------------------

class FakeGuest:
    """Sends and receives one frame a datagram."""

    def __init__(self, datagrams: socket.socket,
                 path: Optional[Path] = None) -> None:
        datagrams.settimeout(SECONDS)
        self.socket = datagrams
        self.path = path

    def send(self, *frames: Frame) -> None:
        for one in frames:
            self.socket.send(made(one))

    def next(self) -> bytes:
        try:
            return self.socket.recv(131072)
        except TimeoutError:
            raise Failure("expected a frame to reach the guest")

    def expect(self, *frames: Frame) -> None:
        for one in frames:
            expect_frame(self.next(), one)

    def drain(self) -> list[bytes]:
        """The frames that have arrived so far."""
        frames = []
        while select.select([self.socket], [], [], 0)[0]:
            frames.append(self.socket.recv(131072))
        return frames

    def close(self) -> None:
        """The file stays, as that of a killed process."""
        self.socket.close()

    def remove(self) -> None:
        self.close()
        if self.path:
            self.path.unlink(missing_ok=True)


def bound_guest(path: Path) -> FakeGuest:
    """A guest that has not found the forwarder yet."""
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    datagrams.bind(str(path))
    return FakeGuest(datagrams, path)


def guest_on_path(path: Path, forwarder_path: Path) -> FakeGuest:
    guest = bound_guest(path)
    try:
        guest.socket.connect(str(forwarder_path))
    except OSError:
        guest.remove()
        raise
    return guest


def guest_pair() -> tuple[FakeGuest, socket.socket]:
    """A guest, and the descriptor's end that is the forwarder's."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return FakeGuest(near), far


def exchange(guest: FakeGuest, connection: Connection, number: int) -> None:
    """A frame each way."""
    guest.send(number)
    connection.expect(number)
    connection.send(number)
    guest.expect(number)


def read_guest(tell: Callable, guest: FakeGuest) -> None:
    """Reads for ever."""
    guest.socket.settimeout(None)
    while True:
        guest.socket.recv(131072)


# --- processes of our own -----------------------------------------------------

def descriptor_of(thing: object) -> int:
    """Of a socket or what has one; -1 for anything else."""
    for name in ("socket", "listener"):
        thing = getattr(thing, name, None) or thing
    return thing.fileno() if isinstance(thing, socket.socket) else -1


def close_all_but(kept: set[int]) -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:  # the descriptor of the list itself
                pass


class Child:
    """Runs a function in a process of its own, so that it can be killed or
    stopped like one, and its work doesn't slow the test's. What it sends with
    the `tell` it is given, the test reads with hear(): also when it is dead.
    Of the descriptors it keeps only its arguments', so that what the test
    closes is closed."""

    def __init__(self, function: Callable, *arguments) -> None:
        ours, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(theirs, function, arguments)
        os.close(theirs)
        os.set_blocking(ours, False)
        self._pipe = ours
        self._heard = b""

    @staticmethod
    def _run(pipe: int, function: Callable, arguments: tuple) -> None:
        status = 1
        try:
            die_with_parent()
            close_all_but({0, 1, 2, pipe, *map(descriptor_of, arguments)})
            signal.alarm(0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            function(lambda data: os.write(pipe, data), *arguments)
            status = 0
        except OSError:  # the other side ended, as it may
            pass
        except BaseException as error:
            print(f"child: {error!r}", flush=True)
        finally:
            os._exit(status)

    def hear(self) -> bytes:
        """All that it has reported so far."""
        try:
            while more := os.read(self._pipe, 65536):
                self._heard += more
        except BlockingIOError:
            pass
        return self._heard

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def close(self) -> None:
        self.kill()
        os.close(self._pipe)


def flood(tell: Callable, guest: FakeGuest, rate: int, sizes: list[int],
          first: int = 1) -> None:
    """Sends numbered frames for ever, `rate` a second unless held back. What
    was held back isn't made up for."""
    datagrams = guest.socket
    datagrams.settimeout(None)
    number, due = first, time.monotonic()
    while True:
        for _ in range(max(1, rate // 500)):
            datagrams.send(frame(number, sizes[number % len(sizes)]))
            number += 1
        due = max(due + max(1, rate // 500) / rate, time.monotonic() - 0.01)
        time.sleep(max(0.0, due - time.monotonic()))


def pour(tell: Callable, connection: Connection, size: int) -> None:
    """Sends numbered frames to the guest as fast as they go."""
    connection.socket.settimeout(None)
    number = 1
    while True:
        connection.send(*(frame(number + i, size) for i in range(20)))
        number += 20


def swallow(tell: Callable, stream: socket.socket) -> None:
    """Reads for ever."""
    stream.settimeout(None)
    while stream.recv(262144):
        pass


# --- all of it ----------------------------------------------------------------

class WithGuest(Forwarder):
    """A forwarder with a stand-in guest on a path."""

    def __init__(self, case: Case, network: str, options: Sequence[str] = (),
                 **more) -> None:
        name = more.get("name", "")
        self.guest_path = case.path(f"{name}guest.sock")
        super().__init__(case, network, f"unixgram:{self.guest_path}", options,
                         **more)
        self.guest = self.new_guest(f"{name}vm.sock")

    def new_guest(self, name: str) -> FakeGuest:
        return self.case.own(
            guest_on_path(self.case.path(name), self.guest_path))

    def exchange(self, connection: Connection, number: int) -> None:
        exchange(self.guest, connection, number)


class Bridge(WithGuest):
    """A stand-in guest, a forwarder and a stand-in daemon, each of which can
    be taken apart. Options are SECTION.KEY=VALUE."""

    def __init__(self, case: Case, options: Sequence[str] = (),
                 daemon: Optional[FakeDaemon] = None,
                 daemon_runs: bool = True, **more) -> None:
        self.daemon = case.own(daemon or FakeDaemon(case.path("net.sock")))
        if daemon_runs and not self.daemon.listener:
            self.daemon.start()
        super().__init__(case, self.daemon.endpoint, options, **more)

    def accept(self) -> Connection:
        return self.case.own(self.daemon.accept())

    def meet(self) -> Connection:
        """A new connection, over which a frame has passed each way."""
        connection = self.accept()
        self.exchange(connection, 0)
        return connection

    def lose(self, connection: Connection) -> None:
        """Stops the daemon and waits until the forwarder has noticed."""
        self.daemon.stop()
        connection.close()
        self.until("network.state", "down")

    def come_back(self) -> Connection:
        """Starts the daemon and waits until both ends are connected: accept()
        may return before the forwarder's connect() does."""
        self.daemon.start()
        connection = self.accept()
        self.until("network.state", "up")
        return connection


def run_as_nobody(case: Case, *arguments) -> subprocess.CompletedProcess:
    """By a user who may look into the test's folder, but perhaps not into the
    one where the forwarder was built: so a copy of it."""
    case.folder.chmod(0o755)
    copy = Path(shutil.copy(FORWARDER, case.path("forwarder")))
    copy.chmod(0o755)
    return run_forwarder(*arguments, program=copy, cwd="/", user=NOBODY,
                         group=NOBODY, extra_groups=[])


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_kib(pid: int) -> int:
    """Exact, other than VmRSS, which is a sum of rough counters."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines()
                if line.startswith("Rss:"))


def context_switches(pid: int, thread: str = "") -> int:
    """Of the thread, or of all, since they started: each wakeup is one."""
    return sum(int(line.split()[1])
               for task in Path(f"/proc/{pid}/task").iterdir()
               if thread in (task / "comm").read_text()
               for line in (task / "status").read_text().splitlines()
               if line.startswith("voluntary_ctxt_switches"))
