"""The basis of every integration test: declaring a test and its needs,
waiting for conditions, processes that end with the test, and network
private namespaces."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, Optional, Sequence, TypeVar

# Where a user's shell does not look for them: ip, nft.
os.environ["PATH"] += ":/usr/sbin:/sbin"

ROOT = Path(__file__).resolve().parents[2]
FORWARDER = Path(os.environ.get("FORWARDER", ROOT / "build/forwarder")).absolute()
POLL_SECONDS = 0.02
SECONDS = 10  # more than anything here takes on a busy machine

Value = TypeVar("Value")


class Failure(Exception):
    """An expectation that was not met."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise Failure(message)


def expect_equal(what: str, found: object, expected: object) -> None:
    expect(found == expected, f"{what}: expected {expected!r}, found {found!r}")


def wait_for(what: str, probe: Callable[[], Value], seconds: float = 10) -> Value:
    """Calls the question until its answer is true; returns the answer."""
    return wait_until(what, probe, bool, seconds)


def wait_until(what: str, probe: Callable[[], Value], wanted: object,
               seconds: float = 10) -> Value:
    """Waits until the answer equals `wanted`, or `wanted` accepts it."""
    accepts = wanted if callable(wanted) else lambda value: value == wanted
    deadline = time.monotonic() + seconds
    while not accepts(found := probe()):
        expect(time.monotonic() < deadline, f"{what}: expected "
               + ("another value" if callable(wanted) else repr(wanted))
               + f" within {seconds} s, found {found!r}")
        time.sleep(POLL_SECONDS)
    return found


def above(limit: float) -> Callable[[float], bool]:
    return lambda value: value > limit


# --- tests and what they need -------------------------------------------------

def needs(*names: str, limit: int = 60):
    """Makes a function a test. It is given a Case, needs what is named (keys
    of NEEDS) and has `limit` seconds."""
    def declare(function: Callable[[Case], None]):
        function.needs = ("forwarder",) + names
        function.limit = limit
        return function
    return declare


class Case:
    """One run of one test: its folder, and what has to be closed after it."""

    def __init__(self) -> None:
        # Short, as a Unix socket's path has 108 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="forwarder-"))
        self._owned: list = []

    def own(self, thing: Value) -> Value:
        """Has thing.close() called at the end, last owned first."""
        self._owned.append(thing)
        return thing

    def path(self, name: str) -> Path:
        return self.folder / name

    def corner(self, name: str) -> Corner:
        return Corner(self, name)

    def logs(self) -> list[Path]:
        return sorted(self.folder.rglob("*.log"))

    def __enter__(self) -> Case:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        try:
            while self._owned:
                self._owned.pop().close()
        finally:
            shutil.rmtree(self.folder)


class Corner(Case):
    """A folder in a case's, for one of several forwarders of a test. The case
    closes what it owns."""

    def __init__(self, case: Case, name: str) -> None:
        self.case, self.name = case, name
        self.folder = case.path(name)
        self.folder.mkdir()

    def own(self, thing: Value) -> Value:
        return self.case.own(thing)


def lacks_program(program: str, package: str) -> Callable[[], Optional[str]]:
    return lambda: (None if shutil.which(program)
                    else f"{program} (package {package})")


def lacks_forwarder() -> Optional[str]:
    if os.access(FORWARDER, os.X_OK):
        return None
    return f"{FORWARDER} (run make, or set FORWARDER)"


def lacks_namespaces() -> Optional[str]:
    try:
        Namespace().close()
        return None
    except (OSError, Failure) as error:
        return f"a network namespace of its own ({error})"


def lacks_tun() -> Optional[str]:
    usable = os.access("/dev/net/tun", os.R_OK | os.W_OK)
    return None if usable else "/dev/net/tun"


def lacks_guest() -> Optional[str]:
    missing = lacks_program("qemu-system-x86_64", "qemu-system-x86")()
    if missing:
        return missing
    built = subprocess.run([ROOT / "tests" / "guest" / "build"],
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
    return None if built.returncode == 0 else built.stdout.strip()


# Each returns None, or what the machine lacks.
NEEDS: dict[str, Callable[[], Optional[str]]] = {
    "forwarder": lacks_forwarder,
    "guest": lacks_guest,
    "iperf3": lacks_program("iperf3", "iperf3"),
    "namespaces": lacks_namespaces,
    "passt": lacks_program("passt", "passt"),
    "tshark": lacks_program("tshark", "tshark"),
    "promtool": lacks_program("promtool", "prometheus"),
    "tun": lacks_tun,
}

# What a system may reserve for root. Other users run without these tests.
ROOTS = {"filter", "namespaces", "root", "trace", "tun"}


# --- processes ----------------------------------------------------------------

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Called in the child, so that it ends even if the runner is killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_parent() -> None:
    """The same for a program that cleans up after itself."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def adopt_orphans() -> None:
    """Makes processes that a program under test leaves running our children."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(which: Callable[[int], bool] = lambda pid: True) -> None:
    """Ends every remaining child that is one of these. Call it when all else is
    closed."""
    while True:
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")
                if stat_of(int(path.name))[1:2] == [str(os.getpid())]]
        pids = list(filter(which, pids))
        if not pids:
            return
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        # The first process of a namespace ends after all the others.
        while pids:
            pids = [pid for pid in pids if os.waitpid(pid, os.WNOHANG)[0] == 0]
            time.sleep(0.001)


class Process:
    """A program with its output in a log file, in a session of its own so that
    an interrupt at the terminal reaches only the runner, which cleans up."""

    def __init__(self, arguments: Sequence, log: Path, **options) -> None:
        self.name = Path(str(arguments[0])).name
        self.log = log
        with open(log, "ab") as output:
            self._process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdout=output, stderr=output, start_new_session=True,
                preexec_fn=die_with_parent,
                **{"stdin": subprocess.DEVNULL, **options})
        self.pid = self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 10) -> int:
        """The exit status as in a shell: 128 + N for signal N."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"expected {self.name} to end within {seconds} s")
        return status if status >= 0 else 128 - status

    def kill(self) -> None:
        """SIGKILL, and gone when this returns."""
        self._process.kill()
        self._process.wait()

    def terminate(self, seconds: float = 10) -> int:
        self._process.terminate()
        return self.wait(seconds)

    def close(self) -> None:
        if self.alive():
            self._process.terminate()
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self.kill()


def stat_of(pid: int) -> list[str]:
    """Its state, its parent and so on. Empty if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(")")[2].split()


def process_exists(pid: int) -> bool:
    """Not counting one that is dead and only waits to be reaped."""
    stat = stat_of(pid)
    return bool(stat) and stat[0] != "Z"


def is_listening(path: Path, pid: int) -> bool:
    """Whether the process's namespace has a Unix socket listening at path.
    Asked of the kernel, as a connection would already be a client."""
    try:
        lines = Path(f"/proc/{pid}/net/unix").read_text().splitlines()
    except OSError:
        return False
    accepting = "00010000"
    return any(line.split()[3] == accepting and line.endswith(f" {path}")
               for line in lines)


# --- network namespaces -------------------------------------------------------

class Namespace:
    """A network namespace without a name, inside a user namespace of its own,
    so that root isn't needed. Its devices and addresses are ours alone. It
    lives as long as a process is in it: nothing is left to be removed."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--net",
             "sh", "-c", "echo ready && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True)
        if self._holder.stdout.readline() != "ready\n":
            self.close()
            raise Failure(self._holder.stderr.read().strip())

    @property
    def pid(self) -> int:
        """Of the process that keeps it."""
        return self._holder.pid

    def enter(self, *arguments) -> list[str]:
        """The command line that runs another one inside. It replaces itself
        with it, so the process id is the command's."""
        return ["nsenter", "--target", str(self.pid), "--user", "--net",
                "--preserve-credentials", "--", *map(str, arguments)]

    def run(self, *arguments) -> str:
        done = subprocess.run(self.enter(*arguments), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=10)
        expect(done.returncode == 0,
               f"{' '.join(map(str, arguments))}: {done.stdout.strip()}")
        return done.stdout

    def ip(self, arguments: str) -> str:
        return self.run("ip", *arguments.split())

    def close(self) -> None:
        self._holder.stdin.close()
        self._holder.wait(10)


def alone_on_the_loopback(*arguments) -> list[str]:
    """The command line that runs another one as the same user in a network
    namespace of its own. Only to bring lo up it has a capability."""
    drop = ["setpriv", "--inh-caps=-all"]
    unshare = ["unshare", "--net"]
    if os.geteuid() != 0:
        drop += ["--ambient-caps=-all"]
        unshare += ["--user", "--map-current-user", "--keep-caps"]
    return [*unshare, "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
            *drop, *map(str, arguments)]
