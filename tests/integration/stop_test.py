"""SIGTERM ends the forwarder within a second, whatever it is doing."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from pathlib import Path

from forwarder import Forwarder, ask_status
from harness import (FORWARDER, Case, Process, above, expect, expect_equal,
                     needs, wait_for)
from peers import Bridge, Child, flood, pour, read_guest, swallow


def start_after(case: Case, script: str) -> Forwarder:
    """A forwarder started by a shell that has run the script."""
    return Forwarder(case, f"unix:{case.path('nobody.sock')}",
                     f"unixgram:{case.path('guest.sock')}",
                     before=["sh", "-c", f'{script}; exec "$@"', "sh"])


@needs()
def stops_while_up_and_idle_with_or_without_a_guest(case: Case):
    for name, number in (("term", signal.SIGTERM), ("int", signal.SIGINT)):
        bridge = Bridge(case.corner(name))
        connection = bridge.accept()
        if name == "term":
            bridge.exchange(connection, 1)
        bridge.stop(number)


@needs()
def other_signals_do_not_stop_it(case: Case):
    """Hangup and interrupt that were ignored at start, as under nohup, whose
    terminal goes, and behind a shell's &; one that is for a command."""
    forwarder = start_after(case, "trap '' HUP INT")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
        forwarder.signal(number)
        forwarder.status()
    forwarder.stop()
    expect("read again" not in forwarder.log_text(), "expected no reload")
    forwarder = start_after(case, "ulimit -c 0")
    forwarder.signal(signal.SIGQUIT)
    expect_equal("exit status", forwarder.process.wait(5),
                 128 + signal.SIGQUIT)


@needs()
def stops_under_load_in_both_directions(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 100000, [1514]))
    case.own(Child(pour, connection, 1514))
    case.own(Child(swallow, connection.socket))
    case.own(Child(read_guest, bridge.guest))
    for direction in ("up", "down"):
        bridge.until(f"{direction}.frames", above(5000))
    bridge.stop()


# --- while it waits -----------------------------------------------------------

def until_held_back(sender: socket.socket) -> None:
    wait_for("the sender to be held back",
             lambda: not select.select([], [sender], [], 0)[1])


@needs()
def stops_while_it_backs_off_and_holds_the_guest(case: Case):
    bridge = Bridge(case, ["reconnect.min=10s", "reconnect.max=1m",
                           "network.hold=forever"], daemon_runs=False)
    case.own(Child(flood, bridge.guest, 1000, [100]))
    bridge.until("network.last_error", bool)
    until_held_back(bridge.guest.socket)
    bridge.stop()


@needs()
def stops_while_the_network_or_the_guest_reads_nothing(case: Case):
    for unread in ("network", "guest"):
        bridge = Bridge(case.corner(unread), ["guest.stall=1s"])
        connection = bridge.meet()
        if unread == "network":
            case.own(Child(flood, bridge.guest, 100000, [1514]))
            until_held_back(bridge.guest.socket)
        else:
            case.own(Child(pour, connection, 1514))
            until_held_back(connection.socket)
        bridge.stop()


@needs()
def stops_the_moment_it_has_started(case: Case):
    """Whenever the signal comes: before, while or after everything is open."""
    for round_number in range(40):
        guest = case.path(f"guest{round_number}.sock")
        process = case.own(Process(
            [FORWARDER, "-g", f"unixgram:{guest}", "-n", "unix:/nobody"],
            case.path("forwarder.log")))
        wait_for("a sign of life",
                 lambda: guest.exists() or not process.alive())
        time.sleep(round_number / 10000)  # a little later each round
        expect_equal("exit status", process.terminate(1), 0)
        expect(not guest.exists(), "expected the guest socket removed")


@needs()
def stops_when_signalled_many_times(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    for _ in range(200):
        bridge.signal(signal.SIGUSR1)
        bridge.signal(signal.SIGHUP)
    bridge.stop()


# --- a log that is not read ---------------------------------------------------

def go_on_and_stop(case: Case, ends: tuple[int, int]) -> None:
    """A forwarder whose standard error is a terminal or a pipe. It finds no
    daemon, so each dial is a line as well."""
    reader, error = ends
    os.set_blocking(reader, False)
    forwarder = Forwarder(
        case, f"unix:{case.path('nobody.sock')}",
        f"unixgram:{case.path('guest.sock')}", ["reconnect.max=100ms"],
        before=["sh", "-c", f'exec "$@" 2>&{error}', "sh"], pass_fds=[error])
    os.close(error)
    said = bytearray()

    def lost_lines_are_reported() -> bool:
        try:
            said.extend(os.read(reader, 1 << 20))
        except BlockingIOError:
            pass
        return b"warn service: lost " in said

    def fill() -> None:
        """Writes several times what a terminal and the log's buffer hold."""
        for _ in range(300):
            forwarder.signal(signal.SIGUSR1)
            expect(ask_status(forwarder.control), "expected main to go on")

    fill()
    dials = forwarder.value("network.dials")
    forwarder.until("network.dials", above(dials + 3))
    wait_for("the lost lines to be reported", lost_lines_are_reported)
    fill()
    forwarder.stop()
    os.close(reader)


@needs()
def stops_and_dials_while_its_terminal_is_not_read(case: Case):
    go_on_and_stop(case, os.openpty())


@needs()
def stops_and_dials_while_its_log_pipe_is_not_read(case: Case):
    go_on_and_stop(case, os.pipe())


# --- what makes every wait fail ----------------------------------------------

def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@needs("plain-build")
def stops_when_poll_fails_and_does_not_spin_before(case: Case):
    """poll() fails with EINVAL when it is given more descriptors than the
    process may have by now. (A sanitizer then can't look for leaks.)"""
    bridge = Bridge(case)
    bridge.meet()
    hard = resource.prlimit(bridge.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(bridge.pid, resource.RLIMIT_NOFILE, (0, hard))
    bridge.signal(signal.SIGUSR1)
    bridge.until_line("warn service: can't wait for events ")
    before = processor_seconds(bridge.pid)
    time.sleep(1)
    expect(processor_seconds(bridge.pid) - before < 0.5,
           "expected it not to spin")
    expect_equal("exit status", bridge.process.terminate(1), 0)
