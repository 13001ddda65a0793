"""Real network daemons for the far side of the forwarder. Each can be killed
and started again on the same socket, in a namespace that stays."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Optional

from harness import (Failure, Namespace, Process, expect_equal, is_listening,
                     wait_for)


class Daemon:
    """A program listening on a Unix stream socket."""

    def __init__(self, folder: Path, name: str) -> None:
        self.socket = folder / f"{name}.sock"
        self.log = folder / f"{name}.log"
        self.namespace = Namespace()
        self.process: Optional[Process] = None

    def command(self) -> list:
        raise NotImplementedError

    def start(self) -> None:
        """The first time or again. It listens when this returns."""
        self.process = Process(self.namespace.enter(*self.command()), self.log)
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
