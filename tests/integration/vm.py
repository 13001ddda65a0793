"""A real Linux guest in QEMU, without hardware virtualisation, that runs given
commands. tests/guest/build makes its kernel and its only file system."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Optional, Sequence

from harness import ROOT, Failure, Process, expect

IMAGE = ROOT / "build" / "guest"
MAC = "52:54:00:12:34:56"


class Guest:
    """A virtual machine with one network card.

    netdev    QEMU's -netdev argument, with the id n0
    address   "192.0.2.2/24", or "dhcp"
    prefix    a command line that QEMU's is appended to
    initrd    its file system
    """

    def __init__(self, folder: Path, netdev: str, address: str,
                 gateway: str = "", prefix: Sequence = (), name: str = "guest",
                 boot_seconds: float = 60, initrd: Path = IMAGE / "initramfs",
                 **process) -> None:
        self.console = folder / f"{name}-console.log"
        self.pid_file = folder / f"{name}.pid"
        self._marks = itertools.count()
        self._received = b""
        self._channel: Optional[socket.socket] = None
        channel_path = folder / f"{name}-channel"
        # The guest connects to us, so that its first output is not missed.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(channel_path))
            listener.listen()
            self.process = Process(
                [*prefix, *self._command(channel_path, netdev, address, gateway,
                                         initrd)],
                folder / f"{name}.log", **process)
            try:
                self._meet(listener, boot_seconds)
            except BaseException:
                self.close()
                raise
            finally:
                channel_path.unlink()

    @staticmethod
    def on_path(folder: Path) -> str:
        """The netdev of one behind a forwarder bound to guest.sock."""
        return ("dgram,id=n0"
                f",local.type=unix,local.path={folder / 'vm.sock'}"
                f",remote.type=unix,remote.path={folder / 'guest.sock'}")

    def _command(self, channel: Path, netdev: str, address: str,
                 gateway: str, initrd: Path) -> list[str]:
        return [
            "qemu-system-x86_64", "-accel", "tcg", "-machine", "q35",
            "-m", "192M", "-nodefaults", "-no-user-config", "-no-reboot",
            "-display", "none", "-pidfile", str(self.pid_file),
            "-kernel", str(IMAGE / "vmlinuz"),
            "-initrd", str(initrd),
            "-append", "console=ttyS0 quiet panic=-1 net.ifnames=0"
                       " mitigations=off random.trust_cpu=on"
                       " cryptomgr.notests rcupdate.rcu_expedited=1"
                       f" guest_address={address} guest_gateway={gateway}",
            "-serial", f"file:{self.console}",
            "-netdev", netdev,
            "-device", f"virtio-net-pci,netdev=n0,mac={MAC},romfile=",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=channel,path={channel}",
            "-device", "virtserialport,chardev=channel",
        ]

    def _meet(self, listener: socket.socket, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        listener.settimeout(0.1)
        while self._channel is None:
            try:
                self._channel, _ = listener.accept()
            except TimeoutError:
                expect(self.process.alive(), "expected QEMU to start")
                expect(time.monotonic() < deadline,
                       f"expected the guest within {seconds} s")
        self._read_until(rb"ready\n", deadline, "the guest to come up")

    def run(self, command: str, seconds: float = 15, check: bool = True) -> str:
        """Runs a line of shell in the guest and returns what it printed."""
        status, output = self.try_run(command, seconds)
        if check:
            expect(status == 0, f"in the guest: {command}\n{output}\n"
                                f"expected status 0, found {status}")
        return output

    def try_run(self, command: str, seconds: float = 15) -> tuple[int, str]:
        """The same, with the exit status."""
        mark = f"done-{next(self._marks)}"
        self._channel.sendall(f"{mark} {command}\n".encode())
        found, output = self._read_until(
            rb"\n%s (\d+)\n" % mark.encode(), time.monotonic() + seconds,
            f"in the guest, an end of: {command}")
        return int(found.group(1)), output

    def start(self, command: str) -> Job:
        """Runs a command in the guest while others go on."""
        return Job(self, next(self._marks), command)

    def power_off(self) -> None:
        """Asks the machine to switch itself off, and doesn't wait."""
        self._channel.sendall(b"off poweroff -f\n")

    def _read_until(self, pattern: bytes, deadline: float,
                    what: str) -> tuple[re.Match, str]:
        while True:
            found = re.search(pattern, self._received)
            if found:
                output = self._received[:found.start()]
                self._received = self._received[found.end():]
                return found, output.decode(errors="replace").strip()
            self._channel.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                more = self._channel.recv(65536)
            except TimeoutError:
                raise Failure(f"expected {what}, in time. So far:\n"
                              + self._received.decode(errors="replace"))
            expect(more, f"expected {what}, but the guest is gone")
            self._received += more

    def kill(self) -> None:
        """As by a power cut: SIGKILL for QEMU."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        if self._channel:
            self._channel.close()
        self.process.close()


def initrd_with(folder: Path, program: Path) -> Path:
    """The guest's file system, and a program of this host in /bin, with its
    libraries."""
    libraries = subprocess.run(["ldd", program], check=True, text=True,
                               stdout=subprocess.PIPE).stdout
    names = [f"bin/{program.name}"]
    root = folder / "root"
    for path in (program, *re.findall(r"/(\S+) \(0x", libraries)):
        to = root / (path if path != program else names[0])
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/") / path, to)
    names = [str(path.relative_to(root)) for path in sorted(root.rglob("*"))]
    archive = subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], cwd=root,
                             input="\n".join(names).encode(), check=True,
                             capture_output=True).stdout
    packed = (IMAGE / "initramfs").read_bytes()
    initrd = folder / "initrd"
    # The kernel wants an archive that isn't compressed at a multiple of 4.
    initrd.write_bytes(packed + b"\0" * (-len(packed) % 4) + archive)
    return initrd


class Job:
    """A command running in the background of a guest."""

    def __init__(self, guest: Guest, number: int, command: str) -> None:
        self.guest = guest
        self.command = command
        self._output = f"/tmp/job-{number}"
        self._pid = int(guest.run(f"{command} >{self._output} 2>&1 & echo $!"))

    def alive(self) -> bool:
        return self.guest.try_run(f"kill -0 {self._pid}")[0] == 0

    def wait(self, seconds: float) -> str:
        """Its output, once it has ended with status 0."""
        status, _ = self.guest.try_run(f"wait {self._pid}", seconds)
        output = self.guest.run(f"cat {self._output}")
        expect(status == 0, f"in the guest: {self.command}\n{output}\n"
                            f"expected status 0, found {status}")
        return output


def received_bytes(report: str) -> int:
    """From the output of iperf3 --json: what the receiving end got, or with
    --bidir both of them."""
    end = json.loads(report)["end"]
    other = end.get("sum_received_bidir_reverse", {"bytes": 0})
    return end["sum_received"]["bytes"] + other["bytes"]
