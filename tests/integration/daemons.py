"""Network daemons for the far side of the forwarder. Each can be killed and
started again on the same socket. The real ones are in a namespace that stays;
for those that take datagrams there are stand-ins."""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Callable, Optional

from harness import (Failure, Namespace, Process, expect, expect_equal,
                     is_listening, wait_for)
from peers import (MIN_FRAME_BYTES, Child, frame, is_announcement, number_of)


class Daemon:
    """A program listening on a Unix stream socket."""

    process_options: dict = {}

    def __init__(self, folder: Path, name: str) -> None:
        self.socket = folder / f"{name}.sock"
        self.log = folder / f"{name}.log"
        self.namespace = Namespace()
        self.process: Optional[Process] = None

    def command(self) -> list:
        raise NotImplementedError

    def start(self) -> None:
        """The first time or again. It listens when this returns."""
        self.process = Process(self.namespace.enter(*self.command()), self.log,
                               **self.process_options)
        wait_for(f"{self.socket.name} to be listened on",
                 lambda: not self.process.alive()
                 or is_listening(self.socket, self.process.pid))
        if not self.process.alive():
            raise Failure(f"expected {self.socket.name} to be listened on, but"
                          f" the daemon ended, status {self.process.wait()}")

    def kill(self) -> None:
        """SIGKILL, and gone when this returns. Its socket file stays."""
        self.process.kill()

    def close(self) -> None:
        if self.process and self.process.alive():
            self.process.kill()
        self.namespace.close()


class L2Daemon(Daemon):
    """A daemon without state: a QEMU that has no machine, only a hub between
    the stream socket and a TAP device. TCP sessions of the guest end in its
    namespace's kernel, not in the daemon, and survive it."""

    ADDRESS = "192.0.2.1"
    GUEST_ADDRESS = "192.0.2.2/24"

    def __init__(self, folder: Path, name: str = "daemon") -> None:
        super().__init__(folder, name)
        self.namespace.ip("link set lo up")
        self.namespace.ip("tuntap add dev tap0 mode tap")
        # No frames of its own, only answers.
        self.namespace.ip("link set tap0 addrgenmode none")
        self.namespace.ip(f"address add {self.ADDRESS}/24 dev tap0")

    def start(self) -> None:
        """Attaches the TAP device once QEMU listens: QEMU 7.2 crashes if a
        frame arrives before (2 of 3 starts under traffic)."""
        self.namespace.ip("link set tap0 down")
        super().start()
        self.namespace.ip("link set tap0 up")

    def supervise(self) -> None:
        """Starts it again if it crashed all the same: it listens a moment
        before it is ready, which cannot be seen from outside."""
        if not self.process.alive():
            expect_equal("status of a daemon that ended by itself",
                         self.process.wait(), 128 + signal.SIGSEGV)
            self.start()

    def command(self) -> list:
        return [
            "qemu-system-x86_64", "-machine", "none", "-nodefaults",
            "-no-user-config", "-display", "none",
            "-netdev", "stream,id=s0,server=on,addr.type=unix,"
                       f"addr.path={self.socket}",
            "-netdev", "tap,id=t0,ifname=tap0,script=no,downscript=no",
            "-netdev", "hubport,id=h0,hubid=0,netdev=s0",
            "-netdev", "hubport,id=h1,hubid=0,netdev=t0",
        ]


class Passt(Daemon):
    """passt, in a namespace whose default route leads nowhere: what the guest
    sends to its gateway ends at the namespace's own loopback."""

    ADDRESS = "192.0.2.2"
    GATEWAY = "192.0.2.1"

    def __init__(self, folder: Path, name: str = "passt") -> None:
        super().__init__(folder, name)
        self.namespace.ip("link set lo up")
        self.namespace.ip("link add out0 type veth peer name out1")
        self.namespace.ip(f"address add {self.ADDRESS}/24 dev out0")
        self.namespace.ip("link set out0 up")
        self.namespace.ip("link set out1 up")
        self.namespace.ip(f"route add default via {self.GATEWAY}")

    def command(self) -> list:
        return ["passt", "--foreground", "--stderr", "--ipv4-only",
                "--socket", self.socket]


class Iperf3Server:
    """Serves one client after another on an address of a namespace, with a
    short pause between two of them."""

    def __init__(self, folder: Path, namespace: Namespace, address: str,
                 port: int = 5201) -> None:
        self.log = folder / f"iperf3-{port}.log"
        self._process = Process(
            namespace.enter("iperf3", "--server", "--forceflush",
                            "--bind", address, "--port", port), self.log)
        self.wait_until_free()

    def wait_until_free(self) -> None:
        """Its last line of output, above a rule of dashes."""
        wait_for("iperf3 to listen", lambda: "Server listening" in "".join(
            self.log.read_text().splitlines()[-2:]))

    def close(self) -> None:
        self._process.close()


# --- daemons that take datagrams ----------------------------------------------

class Record:
    """What a process that may be killed has passed: its last words outlive it
    in shared memory. Numbers received, in order, and of those that it sends:
    the last that it tried, and how many went."""

    MOST = 1 << 20

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 24 + 8 * self.MOST)

    def _get(self, word: int) -> int:
        return struct.unpack_from("=Q", self._memory, 8 * word)[0]

    def _put(self, word: int, value: int) -> None:
        struct.pack_into("=Q", self._memory, 8 * word, value)

    tried = property(lambda self: self._get(0),
                     lambda self, value: self._put(0, value))
    sent = property(lambda self: self._get(1),
                    lambda self, value: self._put(1, value))

    def receive(self, number: int) -> None:
        self._put(3 + self._get(2), number)
        self._put(2, self._get(2) + 1)

    def received(self) -> list[int]:
        return [self._get(3 + i) for i in range(self._get(2))]


def pass_datagrams(datagrams: socket.socket, record: Record, first: bytes,
                   send: Callable, rate: int, size: int) -> None:
    """Receives numbered frames and sends others, `rate` a second."""
    datagrams.setblocking(False)
    due = time.monotonic()
    received = [first] if first else []
    while True:
        for one in received:
            # gvproxy panics over a runt; vmnet-helper takes an empty one for
            # the end.
            expect(len(one) >= MIN_FRAME_BYTES,
                   f"expected frames, found {len(one)} bytes")
            if not is_announcement(one):
                record.receive(number_of(one))
        received = []
        wait = max(0.0, due - time.monotonic()) if rate else None
        if select.select([datagrams], [], [], wait)[0]:
            received.append(datagrams.recv(131072))
        while rate and due < time.monotonic():
            due += 1 / rate
            record.tried += 1
            if send(frame(record.tried, size)):
                record.sent += 1
            else:
                record.tried -= 1
                break


def act_as_gvproxy(tell: Callable, path: str, record: Record, rate: int,
                   size: int) -> None:
    """gvproxy -listen-vfkit (pkg/transport/unixgram_unix.go, pkg/tap/switch.go
    and cmd/gvproxy/main.go of containers/gvisor-tap-vsock). It refuses to start
    if the path exists. Its client is the sender of the first datagram, which is
    dropped if it is "VFKT". It isn't connected, but sends to the client's path;
    if that fails, it ends and removes its socket."""
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(path)
    first, client = datagrams.recvfrom(131072)
    datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def send(one: bytes) -> bool:
        try:
            return datagrams.sendto(one, client) > 0
        except BlockingIOError:
            return False
    try:
        pass_datagrams(datagrams, record, b"" if first == b"VFKT" else first,
                       send, rate, size)
    except (ConnectionError, FileNotFoundError):
        os.unlink(path)


def act_as_vmnet_helper(tell: Callable, path: str, record: Record, rate: int,
                        size: int) -> None:
    """vmnet-helper --socket (programs/helper.c of nirs/vmnet-helper). It
    replaces what is at the path. It connects to the sender of the first
    datagram, so that the kernel refuses any other client, and drops that
    datagram if it has less than 64 bytes. A frame that it can't send is
    dropped."""
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if os.path.exists(path):
        os.unlink(path)
    datagrams.bind(path)
    os.chmod(path, 0o600)
    first, client = datagrams.recvfrom(131072, socket.MSG_PEEK)
    datagrams.connect(client)
    if len(first) < 64:
        datagrams.recv(64)

    def send(one: bytes) -> bool:
        try:
            return datagrams.send(one) > 0
        except (BlockingIOError, ConnectionError):
            return False
    pass_datagrams(datagrams, record, b"", send, rate, size)


class DatagramDaemon:
    """One of the two above in a process of its own, which is killed, frozen
    and started again. What passes is in `record`, whichever process it was."""

    def __init__(self, path: Path, act: Callable, rate: int = 0,
                 size: int = 60) -> None:
        self.path, self.act, self.rate, self.size = path, act, rate, size
        self.record = Record()
        self.process: Optional[Child] = None

    @property
    def endpoint(self) -> str:
        return f"unixgram:{self.path}"

    def start(self) -> None:
        """As a service manager does, it removes what a killed one has left."""
        self.path.unlink(missing_ok=True)
        self.process = Child(self.act, str(self.path), self.record, self.rate,
                             self.size)

    def signal(self, number: int) -> None:
        self.process.signal(number)

    def kill(self) -> None:
        """SIGKILL, and gone when this returns. Its socket file stays."""
        self.process.close()
        self.process = None

    def close(self) -> None:
        if self.process:
            self.kill()
