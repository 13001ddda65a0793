"""SIGTERM ends the forwarder within a second, whatever it is doing."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from forwarder import ask_status, command_line
from harness import (Case, Namespace, Process, die_with_parent,
                     expect, expect_equal, needs, wait_for)
from peers import (Bridge, Child, FakeDaemon, fill_backlog, flood, pour,
                   swallow)

LIMIT_SECONDS = 1


def expect_stop(process: Process, number: int = signal.SIGTERM) -> None:
    started = time.monotonic()
    process.signal(number)
    expect_equal("exit status", process.wait(5), 0)
    took = time.monotonic() - started
    expect(took < LIMIT_SECONDS,
           f"expected an end within {LIMIT_SECONDS} s, it took {took:.2f} s")


def expect_clean_stop(bridge: Bridge, number: int = signal.SIGTERM) -> None:
    expect_stop(bridge.forwarder.process, number)
    expect(not bridge.guest_path.exists(), "expected the guest socket removed")
    expect(not bridge.forwarder.control.exists(),
           "expected the control socket removed")


@needs()
def stops_while_up_and_idle(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    expect_clean_stop(bridge)


@needs()
def stops_on_an_interrupt_too(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    expect_clean_stop(bridge, signal.SIGINT)


def start_after(case: Case, script: str) -> Process:
    """A forwarder that a shell becomes after it did something."""
    control = case.path("control.sock")
    process = case.own(Process(
        ["sh", "-c", f"{script}; exec \"$@\"", "sh", *command_line(
            control, f"unix:{case.path('nobody.sock')}",
            f"unixgram:{case.path('guest.sock')}")],
        case.path("forwarder.log")))
    wait_for("the forwarder", lambda: ask_status(control))
    return process


@needs()
def hangup_and_interrupt_that_were_ignored_at_start_do_nothing(case: Case):
    """As under nohup, whose terminal goes, and behind a shell's &."""
    process = start_after(case, "trap '' HUP INT")
    process.signal(signal.SIGHUP)
    process.signal(signal.SIGINT)
    expect(ask_status(case.path("control.sock")), "expected it to go on")
    expect_stop(process)
    expect("read again" not in case.path("forwarder.log").read_text(),
           "expected no reload")


@needs()
def signal_that_is_for_a_command_does_nothing_without_one(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    bridge.forwarder.process.signal(signal.SIGUSR2)
    expect(bridge.status(), "expected it to go on")
    expect_clean_stop(bridge)


@needs()
def quit_is_no_stop_with_status_0(case: Case):
    process = start_after(case, "ulimit -c 0")
    process.signal(signal.SIGQUIT)
    expect_equal("exit status", process.wait(5), 128 + signal.SIGQUIT)


@needs()
def stops_before_any_guest_came(case: Case):
    bridge = Bridge(case)
    bridge.accept()
    expect_clean_stop(bridge)


@needs()
def stops_under_load_in_both_directions(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    case.own(Child(flood, bridge.guest, 100000, [1514]))
    case.own(Child(pour, connection, 1514))
    case.own(Child(swallow, connection.socket))
    case.own(Child(drain_guest, bridge.guest))
    wait_for("load both ways", lambda: all(
        bridge.status()[direction]["frames"] > 5000
        for direction in ("guest_to_network", "network_to_guest")))
    expect_clean_stop(bridge)


def drain_guest(tell, guest) -> None:
    guest.socket.settimeout(None)
    while True:
        guest.socket.recv(65536)


@needs()
def stops_while_it_backs_off(case: Case):
    bridge = Bridge(case, ["reconnect.min=10s", "reconnect.max=1m",
                           "network.hold=forever"], daemon_runs=False)
    case.own(Child(flood, bridge.guest, 1000, [100]))
    wait_for("a failed dial", lambda: bridge.status()["network"]["last_error"])
    wait_for("the guest to be held back", lambda: held_back(bridge.guest))
    expect_clean_stop(bridge)


def held_back(guest) -> bool:
    return not select.select([], [guest.socket], [], 0)[1]


@needs()
def stops_while_a_unix_backlog_is_full(case: Case):
    daemon = FakeDaemon(case.path("net.sock"))
    daemon.bind()
    daemon.listen(0)
    fillers = fill_backlog(daemon.path)
    bridge = Bridge(case, daemon=daemon)
    wait_for("a failed dial",
             lambda: bridge.log_lines("debug link: dial failed"))
    expect_clean_stop(bridge)
    for filler in fillers:
        filler.close()


def fill_tcp_backlog(daemon: FakeDaemon) -> list[socket.socket]:
    """Until the kernel drops SYNs: then a connect() gets no answer at all."""
    fillers = []
    while True:
        filler = socket.socket()
        filler.settimeout(0.5)
        fillers.append(filler)
        try:
            filler.connect((daemon.host, daemon.port))
        except TimeoutError:
            return fillers


@needs()
def stops_while_connect_gets_no_answer(case: Case):
    daemon = FakeDaemon()
    daemon.bind()
    daemon.listen(0)
    fillers = fill_tcp_backlog(daemon)
    bridge = Bridge(case, daemon=daemon)
    wait_for("the dial", lambda: bridge.status()["network"]["dials"] == 1)
    expect_equal("failed dials",
                 bridge.log_lines("debug link: dial failed"), [])
    expect_clean_stop(bridge)
    for filler in fillers:
        filler.close()


@needs()
def stops_while_the_network_reads_nothing(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    case.own(Child(flood, bridge.guest, 100000, [1514]))
    wait_for("the guest to be held back", lambda: held_back(bridge.guest))
    expect_clean_stop(bridge)


@needs()
def stops_while_the_guest_reads_nothing(case: Case):
    bridge = Bridge(case, ["guest.stall=1s"])
    connection = bridge.meet()
    case.own(Child(pour, connection, 1514))
    wait_for("the network to be held back", lambda: not select.select(
        [], [connection.socket], [], 0)[1])
    expect_clean_stop(bridge)


SILENT_RESOLVER = """
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", 53))
print("bound", flush=True)
while True:
    print(udp.recv(512), flush=True)
"""


@needs("namespaces")
def stops_while_a_name_is_being_resolved(case: Case):
    namespace = case.own(Namespace())
    namespace.ip("link set lo up")
    asked = case.path("resolver.log")
    case.own(Process(namespace.enter(sys.executable, "-c", SILENT_RESOLVER),
                     asked))
    wait_for("a resolver that says nothing",
             lambda: "bound" in asked.read_text())
    servers = case.path("resolv.conf")
    servers.write_text("nameserver 127.0.0.1\noptions timeout:30\n")
    started = ["unshare", "--mount", "sh", "-c",
               f"mount --bind {servers} /etc/resolv.conf && exec \"$@\"", "sh",
               *command_line(case.path("control.sock"),
                             "tcp:network.example.com:7000",
                             f"unixgram:{case.path('guest.sock')}")]
    forwarder = case.own(Process(namespace.enter(*started),
                                 case.path("forwarder.log")))
    wait_for("a question to the resolver",
             lambda: "network" in asked.read_text())
    expect_stop(forwarder)


@needs()
def stops_the_moment_it_has_started(case: Case):
    """Whenever the signal comes: before, while or after everything is open."""
    for round_number in range(40):
        guest = case.path(f"guest{round_number}.sock")
        process = case.own(Process(
            command_line(case.path("control.sock"),
                         f"unix:{case.path('nobody.sock')}",
                         f"unixgram:{guest}"), case.path("forwarder.log")))
        wait_for("a sign of life", lambda: has_begun(process, guest,
                                                     round_number))
        expect_stop(process)
        expect(not guest.exists(), "expected the guest socket removed")


def has_begun(process: Process, guest: Path, round_number: int) -> bool:
    """A little later each round."""
    begun = guest.exists()
    if begun:
        time.sleep(round_number / 10000)
    return begun or not process.alive()


@needs()
def stops_when_signalled_many_times(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    for _ in range(200):
        bridge.forwarder.process.signal(signal.SIGUSR1)
        bridge.forwarder.process.signal(signal.SIGHUP)
    expect_clean_stop(bridge)


# --- a log that nobody reads --------------------------------------------------

class Unread:
    """A forwarder whose standard error is a terminal or a pipe. It finds no
    daemon, so each dial is a line as well."""

    def __init__(self, case: Case, ends: tuple[int, int]) -> None:
        self.reader, error = ends
        os.set_blocking(self.reader, False)
        self.control = case.path("control.sock")
        self._process = subprocess.Popen(
            command_line(self.control, f"unix:{case.path('nobody.sock')}",
                         f"unixgram:{case.path('guest.sock')}",
                         ["reconnect.max=100ms"]),
            stdin=subprocess.DEVNULL, stderr=error, start_new_session=True,
            preexec_fn=die_with_parent)
        os.close(error)
        self.said = b""
        wait_for("the forwarder", lambda: ask_status(self.control))

    def fill(self) -> None:
        """Writes several times what a terminal and the log's buffer hold."""
        for _ in range(300):
            self._process.send_signal(signal.SIGUSR1)
            expect(ask_status(self.control), "expected main to go on")

    def expect_dials(self) -> None:
        def dials() -> int:
            return ask_status(self.control)["network"]["dials"]
        before = dials()
        wait_for("more dials", lambda: dials() > before + 3)

    def read(self) -> bytes:
        try:
            self.said += os.read(self.reader, 1 << 20)
        except BlockingIOError:
            pass
        return self.said

    def expect_stop(self) -> None:
        started = time.monotonic()
        self._process.terminate()
        expect_equal("exit status", self._process.wait(5), 0)
        took = time.monotonic() - started
        expect(took < LIMIT_SECONDS,
               f"expected an end within {LIMIT_SECONDS} s, it took {took:.2f} s")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self.reader)


def goes_on_and_stops(case: Case, ends: tuple[int, int]) -> None:
    forwarder = case.own(Unread(case, ends))
    forwarder.fill()
    forwarder.expect_dials()
    wait_for("the lost lines to be reported", lambda:
             b"warn service: lost " in forwarder.read())
    forwarder.fill()
    forwarder.expect_stop()


@needs()
def stops_and_dials_while_nobody_reads_the_terminal_it_logs_to(case: Case):
    goes_on_and_stops(case, os.openpty())


@needs()
def stops_and_dials_while_nobody_reads_the_pipe_it_logs_to(case: Case):
    goes_on_and_stops(case, os.pipe())


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
    bridge.forwarder.process.signal(signal.SIGUSR1)
    bridge.wait_for_line("warn service: can't wait for events ")
    before = processor_seconds(bridge.pid)
    time.sleep(1)
    expect(processor_seconds(bridge.pid) - before < 0.5,
           "expected it not to spin")
    expect_stop(bridge.forwarder.process)
