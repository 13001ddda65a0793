"""network = exec: the forwarder starts the daemon, looks after it, and ends
it. The suites child, supervisor and fwd_link test the parts."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from daemons import Iperf3Server, L2Daemon, Passt
from forwarder import Forwarder, run_forwarder
from harness import (Case, above, expect, expect_equal, needs, process_exists,
                     wait_for, wait_until)
from peers import FakeDaemon, WithGuest, descriptors
from vm import Guest, received_bytes

PASST = "exec:passt --foreground --stderr --ipv4-only --fd {fd}"
INTERVAL, COUNT = 0.5, 3
KEEPALIVE = [f"keepalive.interval={int(INTERVAL * 1000)}ms",
             f"keepalive.count={COUNT}"]


def daemon_of(forwarder: Forwarder) -> int:
    return forwarder.until("network.daemon.pid", above(0))


def kill_daemon(forwarder: Forwarder, number: int = signal.SIGKILL) -> int:
    """Returns the process id that it had."""
    pid = daemon_of(forwarder)
    os.kill(pid, number)
    return pid


def until_another(forwarder: Forwarder, pid: int) -> None:
    """Another daemon runs, and its connection is up."""
    forwarder.until("network.daemon.pid", lambda found: found not in (0, pid))
    forwarder.until("network.state", "up")


# --- real daemons and a real guest --------------------------------------------

def expect_connection(guest: Guest, address: str) -> None:
    report = guest.run(f"iperf3 --json --client {address} --bytes 2M",
                       seconds=30)
    expect(received_bytes(report) > 0, "expected bytes to arrive")


@needs("guest", "passt", "namespaces", "iperf3", limit=240)
def passt_is_restarted_after_ten_kills_and_three_freezes(case: Case):
    """The guest makes new connections each time. That passt is frozen is found
    by ARP probes, without any configuration of the gateway."""
    passt = case.own(Passt(case.folder))
    server = case.own(Iperf3Server(case.folder, passt.namespace, "127.0.0.1"))
    forwarder = Forwarder(case, PASST, f"unixgram:{case.path('guest.sock')}",
                          KEEPALIVE, host=passt.namespace)
    guest = case.own(Guest(case.folder, Guest.on_path(case.folder), "dhcp"))
    wait_for("an address from passt's DHCP server",
             lambda: Passt.ADDRESS in guest.run("ip address show dev eth0"), 20)
    expect_connection(guest, Passt.GATEWAY)
    for kill in range(10):
        until_another(forwarder, kill_daemon(forwarder))
        server.wait_until_free()
        expect_connection(guest, Passt.GATEWAY)
    expect("the daemon was killed by signal 9"
           in forwarder.value("network.last_error"), "expected the reason")

    for freeze in range(3):
        forwarder.until("keepalive.armed", True, 30)
        began = time.monotonic()
        pid = kill_daemon(forwarder, signal.SIGSTOP)
        until_another(forwarder, pid)
        took = time.monotonic() - began
        expect(took < INTERVAL * (COUNT + 1) + 2,
               f"expected a restart sooner than after {took:.1f} s")
        server.wait_until_free()
        expect_connection(guest, Passt.GATEWAY)
    expect(forwarder.value("keepalive.deaths") >= 3, "expected three deaths")
    pid = daemon_of(forwarder)
    forwarder.stop()
    expect(not process_exists(pid), "expected passt to be ended")


@needs("passt", "namespaces")
def passt_ends_with_a_forwarder_that_is_killed(case: Case):
    """It has changed its capabilities, so the kernel does not kill it."""
    passt = case.own(Passt(case.folder))
    forwarder = Forwarder(case, PASST, f"unixgram:{case.path('guest.sock')}",
                          host=passt.namespace)
    pid = daemon_of(forwarder)
    forwarder.process.kill()
    wait_until("passt", lambda: process_exists(pid), False)


HUB = ("exec:qemu-system-x86_64 -machine none -nodefaults -display none"
       " -netdev stream,id=s,server=off,addr.type=fd,addr.str={fd}"
       " -netdev tap,id=t,ifname=tap0,script=no,downscript=no"
       " -netdev hubport,id=a,hubid=0,netdev=s"
       " -netdev hubport,id=b,hubid=0,netdev=t")


@needs("guest", "namespaces", "tun", "iperf3", limit=120)
def session_outlives_ten_kills_of_a_stateless_daemon_behind_exec(case: Case):
    network = case.own(L2Daemon(case.folder)).namespace
    network.ip("link set tap0 up")
    hub = case.path("hub")
    hub.write_text("#!/bin/sh\nexec " + HUB.removeprefix("exec:").replace(
        "{fd}", "$1") + "\n")
    hub.chmod(0o755)
    server = case.own(Iperf3Server(case.folder, network, L2Daemon.ADDRESS))
    forwarder = Forwarder(case, f"exec:{hub} {{fd}}",
                          f"unixgram:{case.path('guest.sock')}",
                          ["guest.stall=1s", "network.hold=1m"], host=network)
    guest = case.own(Guest(case.folder, Guest.on_path(case.folder),
                           L2Daemon.GUEST_ADDRESS))
    guest.run(f"ping -c 3 -i 0.2 -W 5 {L2Daemon.ADDRESS}")
    session = guest.start(
        f"iperf3 --json --client {L2Daemon.ADDRESS} --time 15 --bidir")
    wait_for("the session to begin",
             lambda: "connected to" in server.log.read_text(), 20)
    for kill in range(10):
        pid = kill_daemon(forwarder)
        until_another(forwarder, pid)
        frames = forwarder.value("down.frames")
        forwarder.until("down.frames", lambda found: found > frames + 20)
    expect(session.alive(), "expected the session to outlive the last kill")
    expect(received_bytes(session.wait(40)) > 0, "expected bytes to arrive")
    expect(forwarder.value("network.daemon.starts") >= 11, "expected starts")
    expect_equal("frames dropped", forwarder.value("up.drops.outage"), 0)
    forwarder.stop()


# --- stand-ins ----------------------------------------------------------------

ECHO = """
import socket, sys
own = socket.socket(fileno=int(sys.argv[1]))
while True:
    own.send(own.recv(70000) or sys.exit(1))
"""


def echo(case: Case, kind: str = "exec:") -> str:
    """The endpoint of a daemon that returns what it gets."""
    script = case.path("echo.py")
    script.write_text(ECHO)
    return f"{kind}{sys.executable} '{script}' {{fd}}"


LATE_ECHO = """
import os, socket, sys, time
kind = getattr(socket, sys.argv[2])
own = socket.socket(socket.AF_UNIX, kind)
time.sleep(float(sys.argv[3]))
own.bind(sys.argv[1])
if kind == socket.SOCK_STREAM:
    own.listen()
    own, _ = own.accept()
while True:
    data, sender = own.recvfrom(70000)
    if not data:
        sys.exit(1)
    if kind == socket.SOCK_DGRAM:
        if data != b"VFKT":
            own.sendto(data, sender)
    else:
        own.send(data)
"""


def late_echo(case: Case, kind: str, seconds: float) -> str:
    """The same of one that listens at {socket}, after that time."""
    script = case.path("late_echo.py")
    script.write_text(LATE_ECHO)
    prefix, _, kind = kind.partition(" ")
    return f"{prefix}{sys.executable} '{script}' {{socket}} {kind} {seconds}"


def expect_echo(forwarder: WithGuest, number: int) -> None:
    forwarder.guest.send(number)
    forwarder.guest.expect(number)


@needs()
def killed_daemons_leave_no_descriptor_in_the_forwarder(case: Case):
    """Of streams and of datagrams."""
    for kind in ("exec:", "exec-dgram:"):
        forwarder = WithGuest(case, echo(case, kind), ["network.announce=no"],
                              name=kind.strip(":"))
        expect_echo(forwarder, 1)
        before = descriptors(forwarder.pid)
        for number in range(2, 12):
            until_another(forwarder, kill_daemon(forwarder))
            expect_echo(forwarder, number)
        expect_equal("descriptors", descriptors(forwarder.pid), before)
        status = forwarder.value("network")
        expect_equal("starts", status["daemon"]["starts"], 11)
        expect_equal("outages", status["outages"], 10)
        expect_equal("last exit", status["daemon"]["last_exit"], "signal 9")
        lost = forwarder.lines("warn link: lost")
        expect_equal("reasons", [line for line in lost
                                 if "was killed by signal 9" not in line], [])
        forwarder.stop()


@needs()
def daemons_that_listen_are_found_as_soon_as_they_do(case: Case):
    """Although the backoff is too long for a second dial. Nothing is left in
    the private folder that they listen in."""
    case.path("run").mkdir()
    for number, seconds in enumerate((0, 0.2)):
        for kind in ("exec: SOCK_STREAM", "exec-dgram: SOCK_DGRAM"):
            forwarder = WithGuest(
                case, late_echo(case, kind, seconds),
                ["network.announce=no", "reconnect.min=1m", "reconnect.max=1m"],
                name=f"{kind.partition(':')[0]}{number}",
                env={**os.environ, "XDG_RUNTIME_DIR": str(case.path("run"))})
            expect_echo(forwarder, 1)
            before = descriptors(forwarder.pid)
            for kill in range(3):
                until_another(forwarder, kill_daemon(forwarder))
                expect_echo(forwarder, 2 + kill)
            expect_equal("descriptors", descriptors(forwarder.pid), before)
            expect_equal("starts", forwarder.value("network.daemon.starts"), 4)
            forwarder.stop()
            expect_equal("left", os.listdir(case.path("run")), [])


@needs()
def daemon_that_does_not_run_is_one_warning_and_no_spin(case: Case):
    """At least three delays of the backoff pass before the fourth start."""
    closed = "closed before any data was received"
    for number, (command, start, words) in enumerate((
            ("sh -c 'exit 3' {fd}", closed, "exited with status 3"),
            ("sh -c 'kill -SEGV $$' {fd}", closed, "killed by signal 11"),
            ("sh -c 'setsid sleep 2 & exit 0' {fd}", closed,
             "it must stay in the foreground"),
            ("sh -c 'exit 4' {socket}", "can't start the daemon",
             "exited with status 4"),
            ("no-such-daemon {fd}", "can't start the daemon",
             "can't run \\\"no-such-daemon\\\": No such file"),
            ("/etc/passwd {fd}", "can't start the daemon",
             "Permission denied"))):
        began = time.monotonic()
        forwarder = Forwarder(case, f"exec:{command}",
                              f"unixgram:{case.path(f'{number}.sock')}",
                              name=f"forwarder{number}")
        forwarder.until("network.dials", lambda found: found >= 4)
        expect(time.monotonic() - began > 0.1 * 0.75 * (1 + 2 + 4),
               "expected a backoff")
        forwarder.until_lines(f"warn link: {start}", 1)
        expect(words in forwarder.log_text(), f"expected {words} in the log")
        forwarder.stop()


@needs()
def daemon_that_ignores_sigterm_is_killed_after_two_seconds(case: Case):
    forwarder = WithGuest(
        case, "exec:sh -c 'trap \"\" TERM; echo >&3; exec 3>&-;"
        " while :; do sleep 1; done' {fd}")
    began = time.monotonic()
    forwarder.until("network.daemon.starts", 2)
    expect(time.monotonic() - began > 1.9, "expected two seconds")
    forwarder.until_line("warn link: the daemon ignored SIGTERM")
    forwarder.until_line(
        "warn link: lost", "peer closed; the daemon was killed by signal 9")
    forwarder.stop()


def of_case(case: Case) -> list[int]:
    """The processes that were started with this environment."""
    mark = f"MARK={case.folder}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has ended, or is another user's
    return found


DAEMONS = ("exec sleep 1000", "trap \"\" TERM; exec sleep 1000",
           "cat <&3 & wait")


@needs()
def no_process_outlives_the_forwarder(case: Case):
    """However it ends, and with or without a command of its own. A process that
    the daemon has started sees the end of its socket."""
    os.environ["MARK"] = str(case.folder)
    try:
        for number, script in enumerate(DAEMONS):
            network = f"exec:sh -c '{script}' {{fd}}"
            done = run_forwarder("-n", network, "--", "sh", "-c",
                                 "sleep 0.2; exit 5", "{fd}")
            expect_equal("exit status", done.returncode, 5)
            expect_equal(f"left by {script}", of_case(case), [])
            for name, end in (("stopped", signal.SIGTERM),
                              ("killed", signal.SIGKILL)):
                forwarder = Forwarder(
                    case, network, f"unixgram:{case.path('guest.sock')}",
                    name=f"{name}{number}")
                forwarder.until("network.state", "up")
                expect(process_exists(daemon_of(forwarder)), "expected it")
                if end == signal.SIGTERM:
                    forwarder.stop()
                else:
                    forwarder.process.kill()
                    case.path("guest.sock").unlink()
                wait_until(f"processes left by {script}",
                           lambda: of_case(case), [])
    finally:
        del os.environ["MARK"]


@needs()
def reload_replaces_a_daemon_only_if_its_command_changes(case: Case):
    forwarder = WithGuest(case, echo(case), ["network.announce=no"])
    expect_echo(forwarder, 1)
    first = daemon_of(forwarder)
    forwarder.reload("keepalive.interval=1s")
    expect_echo(forwarder, 2)
    expect_equal("daemon", daemon_of(forwarder), first)
    forwarder.reload(f"network.endpoint={echo(case)} again")
    until_another(forwarder, first)
    expect(not process_exists(first), "expected the first one to be ended")
    expect_echo(forwarder, 3)
    second = daemon_of(forwarder)
    other = case.own(FakeDaemon(case.path("net.sock"))).start()
    forwarder.reload(f"network.endpoint={other.endpoint}")
    forwarder.exchange(case.own(other.accept()), 4)
    expect(not process_exists(second), "expected the second to be ended")
    forwarder.until("network.daemon.pid", 0)
    forwarder.stop()
