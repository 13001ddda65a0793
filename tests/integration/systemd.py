"""A machine of its own in which systemd runs as PID 1, with the forwarder, its
units and the user `forwarder` installed. It consists of namespaces over an
overlay of this system's files: what is written there is in memory, and all of
it is gone when systemd is killed."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import re
import socket
import subprocess
from pathlib import Path
from typing import Callable, Optional

from harness import (FORWARDER, NEEDS, ROOT, SECONDS, Case, Process,
                     end_orphans, expect, lacks_program, wait_for)
from peers import FakeDaemon, FakeGuest, bound_guest

SYSTEMD = Path("/lib/systemd/systemd")
PREFIX = "/usr/local"

# The arguments are the new root, the folder of the units, and the forwarder.
# Of this system's own units only the journal is kept. /sys and /proc/sys can't
# be written, so that nothing in the machine changes the host's kernel.
BOOT = f"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" \
    overlay "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/net
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
while read -r device major minor; do
    mknod -m 666 "dev/$device" c "$major" "$minor"
done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
net/tun 10 200
END
rm -rf etc/systemd/system etc/systemd/user etc/forwarder
find usr/lib/systemd/system/sysinit.target.wants ! -type d \
    ! -name systemd-journald.service -delete
mkdir -p etc/systemd/system etc/forwarder .{PREFIX}/lib/systemd/system
cp -R "$2/systemd/." .{PREFIX}/lib/systemd/system
mv .{PREFIX}/lib/systemd/system/user .{PREFIX}/lib/systemd/user
cp -R "$2/sysusers.d" .{PREFIX}/lib
install -m 755 "$3" .{PREFIX}/bin/forwarder
systemd-sysusers --root=. "$2/sysusers.d/forwarder.conf" >/dev/null
mkdir old
pivot_root . old
cd /
umount -l old
rmdir old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test \
    {SYSTEMD} --system --unit=basic.target --show-status=no
"""
# Only systemd itself is in the cgroup: a cgroup with processes of its own can't
# pass on its controllers.
ENTER = """
echo 0 >"$1/cgroup.procs" && shift && exec unshare --cgroup sh -c "$@"
"""

_libc = ctypes.CDLL(None, use_errno=True)


def cgroup_of_ours() -> Optional[Path]:
    """In the cgroup2 hierarchy, wherever it is mounted. None if it isn't."""
    path = next((line[3:].strip() for line in open("/proc/self/cgroup")
                 if line.startswith("0::")), None)
    mounts = [line.split() for line in open("/proc/self/mounts")]
    return next((Path(fields[1] + path) for fields in mounts
                 if path and fields[2] == "cgroup2"), None)


def lacks_systemd() -> Optional[str]:
    if not SYSTEMD.exists():
        return "systemd (package systemd)"
    cgroup = cgroup_of_ours()
    return (None if cgroup and os.access(cgroup, os.W_OK)
            else "a cgroup2 that can be written to")


NEEDS["systemd"] = lacks_systemd
NEEDS["systemd-analyze"] = lacks_program("systemd-analyze", "systemd")


class Cgroup:
    """An empty cgroup, removed with all that were made below it."""

    def __init__(self, name: str) -> None:
        self.path = cgroup_of_ours() / name
        self.path.mkdir()

    def is_populated(self) -> bool:
        return "populated 1" in (self.path / "cgroup.events").read_text()

    def close(self) -> None:
        wait_for(f"{self.path} to be empty", lambda: not self.is_populated())
        for folder, _, _ in os.walk(self.path, topdown=False):
            os.rmdir(folder)


class Machine:
    """Booted, and its units idle, when the constructor returns."""

    def __init__(self, case: Case, name: str = "machine") -> None:
        self.case = case
        root = case.path(name)
        cgroup = case.own(Cgroup(str(root)[1:].replace("/", "-")))
        root.mkdir()
        self._unshare = Process(
            ["unshare", "--fork", "--pid", "--mount", "--net", "--ipc", "--uts",
             "--kill-child", "sh", "-c", ENTER, "enter", cgroup.path, BOOT,
             "boot", root, ROOT / "service", FORWARDER],
            case.path(f"{name}.log"))
        case.own(self)
        self.pid = 0
        wait_for("systemd to be up", self._is_up, 30)
        case.own(Process(
            ["journalctl", "--follow", "--lines=all", "--output=short-precise",
             "--directory", self.path("/run/log/journal")],
            case.path(f"{name}-journal.log")))

    def _is_up(self) -> bool:
        expect(self._unshare.alive(), "expected the machine to boot, found: "
               + self._unshare.log.read_text())
        if not self.pid:
            self.pid = self._find_systemd()
        state = self.pid and self.ask("systemctl", "is-system-running").stdout
        expect(state != "degraded\n", "expected no unit to fail")
        return state == "running\n"

    def _find_systemd(self) -> int:
        """0 until it has replaced the script that prepared its root."""
        unshare = self._unshare.pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text()
        for child in map(int, children.split()):
            if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                return child
        return 0

    # --- programs in the machine ----------------------------------------------

    def enter(self, *arguments) -> list[str]:
        """The command line that runs another one inside as root."""
        return ["nsenter", "--target", str(self.pid), "--all", "--root",
                "--", *map(str, arguments)]

    def ask(self, *arguments, **options) -> subprocess.CompletedProcess:
        """Runs it inside until it ends, whatever its status."""
        return subprocess.run(
            self.enter("env", "-i", f"PATH={PREFIX}/bin:{os.environ['PATH']}",
                       *arguments),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=30, **options)

    def run(self, *arguments) -> str:
        """Its output. It must succeed."""
        done = self.ask(*arguments)
        expect(done.returncode == 0,
               f"{' '.join(map(str, arguments))}: {done.stdout.strip()}")
        return done.stdout

    def shell(self, script: str) -> str:
        return self.run("sh", "-e", "-c", script)

    def systemctl(self, *arguments) -> str:
        return self.run("systemctl", *arguments)

    def show(self, unit: str, name: str) -> str:
        """One of the unit's properties."""
        return self.systemctl("show", "-P", name, unit).strip()

    def pid_of(self, unit: str) -> int:
        """Its main process, as the machine numbers it; 0 if there is none."""
        return int(self.show(unit, "MainPID"))

    def journal(self, unit: str) -> list[str]:
        """The messages of the unit and of systemd about it, oldest first."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--quiet", "--output=cat",
                        f"--unit={unit}").splitlines()

    def until_journal(self, unit: str, *words: str, seconds: float = 10
                      ) -> str:
        """Waits for a line with all the words; returns the last such line."""
        return wait_for(
            f"{words} in the journal of {unit}",
            lambda: [line for line in self.journal(unit)
                     if all(word in line for word in words)], seconds)[-1]

    # --- files and sockets in the machine -------------------------------------

    def path(self, inside: str) -> Path:
        """Where the test finds a file of the machine."""
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")

    def write(self, inside: str, text: str) -> None:
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(text)

    def socket(self, make: Callable[[], socket.socket],
               user: Optional[str] = None) -> socket.socket:
        """One that make() has made inside, in the machine's file system and
        network. It belongs to that user or to root, and is open to the group
        `forwarder`. The case closes it."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            self._send_socket(theirs, make, user)
        theirs.close()
        with ours:
            text, fds, _, _ = socket.recv_fds(ours, 1000, 1)
        os.waitpid(child, 0)
        expect(fds, f"in the machine: {text.decode()}")
        return self.case.own(socket.socket(fileno=fds[0]))

    def _send_socket(self, to: socket.socket, make: Callable,
                     user: Optional[str]) -> None:
        """In a child: the way in is one-way."""
        try:
            for kind in ("net", "mnt"):
                fd = os.open(f"/proc/{self.pid}/ns/{kind}", os.O_RDONLY)
                if _libc.setns(fd, 0) < 0:
                    raise OSError(ctypes.get_errno(), f"setns {kind}")
            os.umask(0o007)
            os.setgroups([])
            os.setgid(grp.getgrnam("forwarder").gr_gid)
            os.setuid(pwd.getpwnam(user or "root").pw_uid)
            made = make()
            socket.send_fds(to, [b"made"], [made.fileno()])
        except BaseException as error:
            to.send(repr(error).encode())
        finally:
            os._exit(0)

    def guest(self, path: str, forwarder_path: str,
              user: Optional[str] = None) -> FakeGuest:
        """A guest on a path that has connected to the forwarder's."""
        def make() -> socket.socket:
            guest = bound_guest(Path(path)).socket
            guest.connect(forwarder_path)
            return guest
        return FakeGuest(self.socket(make, user))

    def daemon(self, path: Optional[str] = None, host: str = "127.0.0.1",
               user: Optional[str] = None) -> FakeDaemon:
        """Listens on a path, or on a port of the machine's loopback."""
        daemon = FakeDaemon(Path(path) if path else None, host)
        daemon.listener = self.socket(
            lambda: FakeDaemon(daemon.path, host).start().listener, user)
        daemon.listener.settimeout(SECONDS)
        if not path:
            daemon.port = daemon.listener.getsockname()[1]
        return daemon

    def close(self) -> None:
        self._unshare.kill()
        end_orphans(is_in_a_namespace)


def is_in_a_namespace(pid: int) -> bool:
    """Of process ids. So is what a killed nsenter left; unless we reap it, the
    namespace never ends."""
    status = Path(f"/proc/{pid}/status").read_text()
    return len(re.search(r"^NSpid:(.*)$", status, re.M).group(1).split()) > 1
