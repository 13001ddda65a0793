"""forwarder ... -- COMMAND: the command is the guest, and its end is ours."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Optional

from forwarder import ask_status, command_line
from harness import (FORWARDER, Case, Process, expect, expect_equal, needs,
                     wait_for)
from peers import FakeDaemon, frame, lines_of, number_of, run_forwarder

EX_USAGE, EX_OSERR = 64, 71


def wrap(case: Case, *command: str, daemon: Optional[FakeDaemon] = None
         ) -> list[str]:
    network = daemon.endpoint if daemon else f"unix:{case.path('nobody.sock')}"
    return [*command_line(case.path("control.sock"), network), "--", *command]


def run_wrapped(case: Case, *command: str) -> tuple[int, str, str]:
    done = run_forwarder(*wrap(case, *command)[1:])
    return done.returncode, done.stdout, done.stderr


def shell(script: str) -> list[str]:
    """{fd} is $1."""
    return ["sh", "-c", script, "sh", "{fd}"]


def python(script: str) -> list[str]:
    """The guest's socket is in `guest`."""
    return [sys.executable, "-c",
            "import os, signal, socket, sys, time\n"
            "guest = socket.socket(fileno=int(sys.argv[1]))\n" + script,
            "{fd}"]


def start_wrapped(case: Case, command: list[str],
                  daemon: Optional[FakeDaemon] = None) -> Process:
    return case.own(Process(wrap(case, *command, daemon=daemon),
                            case.path("forwarder.log")))


def output_of(case: Case) -> str:
    return case.path("forwarder.log").read_text()


def wait_for_word(case: Case, word: str) -> None:
    wait_for(f"the command to say {word!r}", lambda: word in output_of(case))


# --- the descriptor -----------------------------------------------------------

@needs()
def place_in_the_arguments_becomes_the_descriptors_number(case: Case):
    status, out, _ = run_wrapped(
        case, "printf", "%s\n", "{fd}", "id=n0,local.str={fd},x", "{fd}{fd}",
        "{f}", "fd", "{fd")
    expect_equal("exit status", status, 0)
    words = out.splitlines()
    fd = words[0]
    expect(fd.isdigit(), f"expected a number, found {fd}")
    expect_equal("arguments", words,
                 [fd, f"id=n0,local.str={fd},x", fd + fd, "{f}", "fd", "{fd"])


@needs()
def commands_descriptor_is_a_connected_datagram_socket_that_carries_frames(
        case: Case):
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    process = start_wrapped(case, python(
        "assert guest.type == socket.SOCK_DGRAM\n"
        "assert guest.getblocking()\n"
        "guest.send(guest.recv(70000))\n"
        "guest.recv(1)\n"), daemon)
    connection = case.own(daemon.accept())
    connection.send(frame(1, 1514))
    expect_equal("frame", number_of(connection.next()), 1)
    connection.send(frame(2))
    expect_equal("exit status", process.wait(), 0)


@needs()
def command_inherits_its_descriptor_and_no_other(case: Case):
    status, out, errors = run_wrapped(
        case, "sh", "-c", "ls /proc/$$/fd; :", "sh", "{fd}")
    expect_equal("exit status", status, 0)
    found = set(map(int, out.split()))
    expect(len(found - {0, 1, 2}) == 1, f"expected one beside 0, 1 and 2,"
                                        f" found {sorted(found)}")


@needs()
def command_starts_with_usual_signals(case: Case):
    """Above all with SIGPIPE, which the forwarder ignores."""
    status, out, _ = run_wrapped(
        case, "sh", "-c", "cat /proc/self/status", "{fd}")
    expect_equal("exit status", status, 0)
    for line in out.splitlines():
        if line.startswith(("SigBlk", "SigIgn")):
            mask = int(line.split()[1], 16) & ((1 << 31) - 1)
            expect_equal(f"signals in {line.split()[0]}", mask, 0)


@needs()
def signals_that_were_ignored_at_start_stay_so_for_the_command(case: Case):
    done = subprocess.run(
        ["sh", "-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh",
         *wrap(case, "sh", "-c", "cat /proc/self/status", "{fd}")],
        stdout=subprocess.PIPE, text=True, timeout=10)
    mask = next(int(line.split()[1], 16) for line in done.stdout.splitlines()
                if line.startswith("SigIgn"))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        expect(mask >> (number - 1) & 1, f"expected {number} ignored")


@needs()
def command_keeps_standard_input_and_output(case: Case):
    """With what came in on one it answers on the other."""
    done = subprocess.run(wrap(case, *shell("tr a-z A-Z")), input="question",
                          capture_output=True, text=True, timeout=10)
    expect_equal("answer", done.stdout, "QUESTION")


# --- the exit status ----------------------------------------------------------

@needs()
def exit_status_is_the_commands_own(case: Case):
    for status in (0, 1, 7, 69, 71, 127, 255):
        found, _, _ = run_wrapped(case, *shell(f"exit {status}"))
        expect_equal("exit status", found, status)


@needs()
def exit_status_is_128_and_the_signal_that_ended_the_command(case: Case):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV,
                   signal.SIGPIPE):
        found, _, _ = run_wrapped(case, *shell(f"kill -{int(number)} $$"))
        expect_equal("exit status", found, 128 + number)


@needs()
def command_that_ends_at_once_is_never_missed(case: Case):
    for _ in range(30):
        found, _, _ = run_wrapped(case, *shell("exit 5"))
        expect_equal("exit status", found, 5)


@needs()
def command_that_cannot_be_started_is_told_in_one_line_and_as_env_does(case: Case):
    for command, expected, word in (
            ("/no/such/program", 127, "No such file"),
            ("no-such-program", 127, "No such file"),
            ("/etc/passwd", 126, "Permission denied"),
            ("/", 126, "Permission denied")):
        status, out, errors = run_wrapped(case, command, "{fd}")
        expect_equal(f"exit status of {command}", status, expected)
        told = lines_of(errors, "error ")
        expect_equal(f"errors in {errors!r}", len(told), 1)
        expect(command in told[0] and word in told[0],
               f"expected what and why: {told[0]}")
        expect(not case.path("control.sock").exists(),
               "expected nothing left behind")


@needs()
def command_is_not_started_when_something_else_is_refused(case: Case):
    case.path("control.sock").write_text("no socket")
    started = case.path("started")
    status, _, errors = run_wrapped(case, "touch", str(started), "{fd}")
    expect_equal("exit status", status, EX_OSERR)
    expect(not started.exists(), "expected the command not to be started")


@needs()
def command_is_started_once(case: Case):
    status, out, _ = run_wrapped(case, *shell("echo once"))
    expect_equal("output", out, "once\n")


@needs()
def command_line_that_makes_no_sense_is_refused(case: Case):
    nobody = ["-n", "unix:/nobody"]
    for arguments in ([*nobody, "--"], [*nobody, "--", "sh", "-c", "exit"],
                      ["-g", "fd:3", *nobody, "--", "sh", "{fd}"]):
        done = run_forwarder(*arguments)
        expect_equal(f"exit status of {arguments}", done.returncode, EX_USAGE)
        expect(done.stderr.startswith("forwarder: "), done.stderr)


# --- signals ------------------------------------------------------------------

@needs()
def signals_are_passed_on_and_the_forwarder_lives_as_long_as_the_command(
        case: Case):
    process = start_wrapped(case, python(
        "signal.signal(signal.SIGTERM, lambda *_: print('term', flush=True))\n"
        "signal.signal(signal.SIGINT, lambda *_: print('int', flush=True))\n"
        "signal.signal(signal.SIGQUIT, lambda *_: print('quit', flush=True))\n"
        "signal.signal(signal.SIGUSR2, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"))
    wait_for_word(case, "ready")
    for number, word in ((signal.SIGTERM, "\nterm\n"),
                         (signal.SIGINT, "\nint\n"),
                         (signal.SIGQUIT, "\nquit\n")):
        process.signal(number)
        wait_for_word(case, word)
        expect(ask_status(case.path("control.sock")),
               "expected the forwarder to go on")
    process.signal(signal.SIGUSR2)
    expect_equal("exit status", process.wait(), 9)


@needs()
def terminated_command_is_waited_for_and_its_status_returned(case: Case):
    process = start_wrapped(case, shell("echo ready; exec sleep 60"))
    wait_for_word(case, "ready")
    expect_equal("exit status", process.terminate(1), 128 + signal.SIGTERM)


@needs()
def reload_and_status_signals_stay_with_the_forwarder(case: Case):
    process = start_wrapped(case, shell("echo ready; exec sleep 60"))
    wait_for_word(case, "ready")
    process.signal(signal.SIGHUP)
    wait_for("the reload to be told", lambda: lines_of(
        output_of(case), "info config: read again"))
    process.signal(signal.SIGUSR1)
    wait_for("the status to be told", lambda: lines_of(
        output_of(case), "info service: status of guest"))
    expect(process.alive(), "expected the command to live")


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
        os.execv(FORWARDER, wrap(case, *python(COUNT_INTERRUPTS)))
    try:
        said = read_until(terminal, b"ready")
        for _ in range(3):
            os.write(terminal, b"\x03")
            said = read_until(terminal, b"interrupted")
        os.kill(pid, signal.SIGUSR2)
        read_until(terminal, None)
        _, status = os.waitpid(pid, 0)
        expect_equal("interrupts the command saw", os.waitstatus_to_exitcode(
            status), 3)
    finally:
        os.close(terminal)


def read_until(terminal: int, word: Optional[bytes]) -> bytes:
    """Until the word, or the end."""
    said = b""
    while word is None or word not in said:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # what a terminal without users says
            break
        if not more:
            break
        said += more
    return said


# --- the end of things --------------------------------------------------------

@needs()
def socket_that_breaks_before_the_command_ends_changes_nothing(case: Case):
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    process = start_wrapped(case, python(
        "guest.close()\n"
        "print('closed', flush=True)\n"
        "signal.signal(signal.SIGUSR2, lambda *_: sys.exit(6))\n"
        "while True: signal.pause()\n"), daemon)
    wait_for_word(case, "closed")
    connection = case.own(daemon.accept())
    connection.send(frame(1))
    wait_for("the broken socket to be told", lambda: lines_of(
        output_of(case), "warn guest: gone"))
    expect(process.alive(), "expected the forwarder to wait for the command")
    process.signal(signal.SIGUSR2)
    expect_equal("exit status", process.wait(), 6)


@needs()
def nothing_is_left_of_the_command(case: Case):
    """No zombie while others of the command's processes go on, none after."""
    process = start_wrapped(case, shell("echo pid $$; exit 4"))
    expect_equal("exit status", process.wait(), 4)
    expect(not case.path("control.sock").exists(),
           "expected the control socket to be removed")
    command = int(output_of(case).partition("pid ")[2].split()[0])
    expect(not Path(f"/proc/{command}").exists(), "expected no zombie")


@needs()
def command_that_leaves_a_process_behind_is_not_waited_for(case: Case):
    """A background process may hold the socket's other end as long as it
    likes."""
    process = start_wrapped(case, shell("sleep 60 & echo pid $!; exit 3"))
    expect_equal("exit status", process.wait(2), 3)
    left = int(output_of(case).partition("pid ")[2].split()[0])
    os.kill(left, signal.SIGKILL)


@needs()
def daemon_may_be_absent_and_come_and_go_under_a_command(case: Case):
    daemon = case.own(FakeDaemon(case.path("net.sock")))
    process = start_wrapped(case, python(
        "while True:\n"
        "    frame = guest.recv(70000)\n"
        "    guest.send(frame)\n"), daemon)
    for number in range(1, 6):
        daemon.start()
        connection = daemon.accept()
        connection.send(frame(number))
        expect_equal("frame", number_of(connection.next()), number)
        daemon.stop()
        connection.close()
    expect_equal("exit status", process.terminate(1), 128 + signal.SIGTERM)
