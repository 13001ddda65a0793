"""forwarder ... -- COMMAND: the command is the guest, and the forwarder ends
with it. The suite command tests how it is started and what it inherits."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import Optional

from forwarder import Forwarder, expect_refused, run_forwarder
from harness import (FORWARDER, SECONDS, Case, expect, expect_equal, needs,
                     process_exists, wait_for)
from peers import FakeDaemon, exchange_over_restarts


def run_wrapped(*command: str, **options) -> subprocess.CompletedProcess:
    return run_forwarder("-n", "unix:/nobody", "--", *command, **options)


def shell(script: str) -> list[str]:
    """{fd} is $1."""
    return ["sh", "-c", script, "sh", "{fd}"]


def python(script: str) -> list[str]:
    """The guest's socket is in `guest`."""
    return [sys.executable, "-c",
            "import os, signal, socket, sys, time\n"
            "guest = socket.socket(fileno=int(sys.argv[1]))\n" + script,
            "{fd}"]


class Wrapped(Forwarder):
    """A forwarder with a command, whose output is in its log."""

    def __init__(self, case: Case, command: list[str], says: str = "ready",
                 daemon: Optional[FakeDaemon] = None) -> None:
        network = daemon.endpoint if daemon else "unix:/nobody"
        super().__init__(case, network, "", after=["--", *command])
        self.until_said(says)

    def until_said(self, word: str) -> None:
        wait_for(f"the command to print {word!r}",
                 lambda: f"{word}\n" in self.log_text())


# --- the descriptor -----------------------------------------------------------

@needs()
def commands_descriptor_is_a_connected_datagram_socket_that_carries_frames(
        case: Case):
    """And the daemon may be absent, and come and go."""
    daemon = case.own(FakeDaemon(case.path("net.sock")))
    wrapped = Wrapped(case, python(
        "assert guest.type == socket.SOCK_DGRAM and guest.getblocking()\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    guest.send(guest.recv(70000))\n"), daemon=daemon)
    exchange_over_restarts(daemon)
    expect_equal("exit status", wrapped.process.terminate(1),
                 128 + signal.SIGTERM)


@needs()
def signals_ignored_at_start_stay_ignored_in_the_command(case: Case):
    done = subprocess.run(
        ["sh", "-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh", FORWARDER,
         "-n", "unix:/nobody", "--", *shell("grep SigIgn /proc/self/status")],
        stdout=subprocess.PIPE, text=True, timeout=SECONDS)
    mask = int(done.stdout.split()[1], 16)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        expect(mask >> (number - 1) & 1, f"expected {number} ignored")


# --- the exit status ----------------------------------------------------------

@needs()
def exit_status_is_the_commands_own(case: Case):
    """However soon it ends. A signal that ended it is 128 and the signal."""
    for script, expected in (
            *((f"exit {status}", status) for status in (0, 7, 71, 127, 255)),
            *((f"kill -{int(number)} $$", 128 + number) for number in
              (signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE)),
            *[("exit 5", 5)] * 20):
        expect_equal(f"exit status of {script}",
                     run_wrapped(*shell(script)).returncode, expected)


@needs()
def command_that_cannot_start_is_one_line_and_the_status_of_env(case: Case):
    for command, status, word in (
            ("no-such-program", 127, "No such file"),
            ("/etc/passwd", 126, "Permission denied"),
            ("/", 126, "Permission denied")):
        done = run_wrapped(command, "{fd}")
        expect_equal(f"exit status of {command}", done.returncode, status)
        told = [line for line in done.stderr.splitlines() if " error " in line]
        expect(len(told) == 1 and command in told[0] and word in told[0],
               f"expected what and why: {done.stderr}")


@needs()
def command_is_not_started_when_something_else_is_refused(case: Case):
    case.path("control.sock").write_text("no socket")
    started = case.path("started")
    expect_refused(run_forwarder(
        "-n", "unix:/nobody", "-o", f"control.socket={case.path('control.sock')}",
        "--", "touch", started, "{fd}"), 71, "control.sock")
    expect(not started.exists(), "expected the command not to be started")


# --- signals ------------------------------------------------------------------

@needs()
def signals_are_passed_on_and_the_forwarder_runs_until_the_command_ends(
        case: Case):
    wrapped = Wrapped(case, python(
        "def say(number, _): print(number, flush=True)\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):\n"
        "    signal.signal(number, say)\n"
        "signal.signal(signal.SIGUSR2, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        wrapped.signal(number)
        wrapped.until_said(f"\n{int(number)}")
        wrapped.status()
    wrapped.reload()  # this and the next are the forwarder's own
    wrapped.signal(signal.SIGUSR1)
    wrapped.until_line("info service: status of guest")
    wrapped.signal(signal.SIGUSR2)
    expect_equal("exit status", wrapped.process.wait(), 9)


COUNT_INTERRUPTS = """
awaited = {signal.SIGINT, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
os.write(1, b"ready\\n")
count = 0
while signal.sigwait(awaited) == signal.SIGINT:
    count += 1
    os.write(1, b"interrupted\\n")
sys.exit(count)
"""


@needs()
def interrupt_typed_at_the_terminal_reaches_the_command_once(case: Case):
    """The terminal has given it to the command already. What was sent to the
    forwarder alone is passed on, after anything that was to be passed before
    it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(FORWARDER, [FORWARDER, "-n", "unix:/nobody", "--",
                             *python(COUNT_INTERRUPTS)])
    try:
        read_until(terminal, b"ready")
        for _ in range(3):
            os.write(terminal, b"\x03")
            read_until(terminal, b"interrupted")
        os.kill(pid, signal.SIGUSR2)
        read_until(terminal, None)
        _, status = os.waitpid(pid, 0)
        expect_equal("interrupts the command saw", os.waitstatus_to_exitcode(
            status), 3)
    finally:
        os.close(terminal)


def read_until(terminal: int, word: Optional[bytes]) -> None:
    """Until the word, or the end."""
    said = b""
    while word is None or word not in said:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # a terminal without users: EIO
            return
        if not more:
            return
        said += more


# --- the end ------------------------------------------------------------------

@needs()
def socket_that_breaks_before_the_command_ends_changes_nothing(case: Case):
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    wrapped = Wrapped(case, python(
        "guest.close()\n"
        "signal.signal(signal.SIGUSR2, lambda *_: sys.exit(6))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"), daemon=daemon)
    case.own(daemon.accept()).send(1)
    wrapped.until_line("warn guest: gone")
    expect(wrapped.process.alive(), "expected it to wait for the command")
    wrapped.signal(signal.SIGUSR2)
    expect_equal("exit status", wrapped.process.wait(), 6)


@needs()
def exit_leaves_no_file_and_does_not_wait_for_background_processes(case: Case):
    """A background process may hold the socket's other end as long as it
    likes."""
    done = run_wrapped(*shell("sleep 60 >/dev/null 2>&1 & echo $$ $!; exit 3"))
    expect_equal("exit status", done.returncode, 3)
    command, left = map(int, done.stdout.split())
    expect(not os.path.exists(f"/proc/{command}"), "expected no zombie")
    expect(process_exists(left), "expected the other to live")
    os.kill(left, signal.SIGKILL)
