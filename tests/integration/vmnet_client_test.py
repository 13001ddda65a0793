"""The program called as socket_vmnet_client: the command has a stream socket as
descriptor 3, and a forwarder in the background."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from daemons import L2Daemon
from forwarder import expect_refused, run_forwarder
from harness import (FORWARDER, SECONDS, Case, Process, expect, expect_equal,
                     needs, stat_of, wait_for)
from peers import FakeDaemon, exchange_over_restarts
from vm import Guest

ECHO = """
import os, socket, sys
guest = socket.socket(fileno=3)
assert guest.type == socket.SOCK_STREAM and guest.getblocking()
def echo():
    while True:
        guest.sendall(guest.recv(70000))
"""
# As QEMU does with -daemonize.
ECHO_IN_BACKGROUND = ECHO + """
if os.fork() == 0:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    os.closerange(4, 100)
    open(sys.argv[1], "w").write(str(os.getpid()))
    echo()
"""


def client(case: Case) -> Path:
    link = case.path("socket_vmnet_client")
    if not link.exists():
        link.symlink_to(FORWARDER)
    return link


def run_client(case: Case, *arguments, **options
               ) -> subprocess.CompletedProcess:
    return run_forwarder(*arguments, program=client(case), **options)


def forwarders(case: Case) -> list[int]:
    """Those in the background."""
    name = os.fsencode(client(case)) + b"\0"
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(name):
                found.append(int(process.name))
        except OSError:
            pass  # it has ended
    return found


def expect_no_forwarder(case: Case) -> None:
    wait_for("the forwarder in the background to end",
             lambda: not forwarders(case))


@needs()
def command_starts_without_the_daemon_and_outlives_it(case: Case):
    daemon = case.own(FakeDaemon(case.path("net.sock")))
    command = case.own(Process(
        [client(case), daemon.path, sys.executable, "-c", ECHO + "echo()"],
        case.path("client.log")))
    exchange_over_restarts(daemon)
    (pid,) = forwarders(case)
    # It gets no signal from the terminal, and leaves no zombie to the command.
    expect(os.getsid(pid) != os.getsid(command.pid), "expected two sessions")
    expect(stat_of(pid)[1] != str(command.pid), "expected another parent")
    expect_equal("exit status", command.terminate(1),
                 128 + signal.SIGTERM)
    expect_no_forwarder(case)
    # A file may have the log; nobody waits for its end.
    expect(case.path("client.log").read_text().count(" warn link: lost") == 5,
           "expected every outage in the log")


@needs()
def caller_of_a_command_in_the_background_waits_for_nothing(case: Case):
    """minikube starts QEMU with -daemonize, and waits for the end of its
    standard error."""
    daemon = case.own(FakeDaemon(case.path("net.sock")))
    ours, theirs = os.pipe()
    pid_file = case.path("pid")
    done = run_client(case, daemon.path, "--", sys.executable, "-c",
                      ECHO_IN_BACKGROUND, pid_file, pass_fds=[theirs])
    os.close(theirs)
    expect_equal("status and output", (done.returncode, done.stdout,
                                       done.stderr), (0, "", ""))
    expect_equal("the end of a descriptor that the command has closed",
                 os.read(ours, 1), b"")
    os.close(ours)
    exchange_over_restarts(daemon)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    expect_no_forwarder(case)


@needs()
def client_is_refused_or_fails_as_a_command_after_two_dashes(case: Case):
    for arguments, status, words in (
            ([], 64, ["SOCKET COMMAND"]),
            (["--version"], 64, ["SOCKET COMMAND"]),
            (["/s", "--"], 64, ["SOCKET COMMAND"]),
            (["/" + 200 * "s", "true"], 64, ["too long"]),
            (["", "true"], 78, ["path is missing"]),
            (["/s", "no-such-program"], 127, ["no-such-program", "No such"]),
            (["/s", "/etc/passwd"], 126, ["/etc/passwd", "Permission"])):
        expect_refused(run_client(case, *arguments), status, *words)
    for script, status in (("exit 7", 7), ("kill -9 $$", -9)):
        expect_equal(f"exit status of {script}", run_client(
            case, "/s", "sh", "-c", script).returncode, status)
    expect_no_forwarder(case)


@needs()
def command_is_not_started_if_the_forwarder_cannot_start(case: Case):
    """Out of descriptors: in the caller, at once in the background, later."""
    for limit, words in ((4, "can't run"), (8, "can't run"),
                         (12, "can't start")):
        done = run_client(case, "/s", "echo", "started",
                          preexec_fn=lambda: limit_descriptors(limit))
        expect_refused(done, 71, words, "Too many open files")
        expect_equal("output", done.stdout, "")


def limit_descriptors(count: int) -> None:
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


@needs()
def service_managers_messages_are_left_to_the_command(case: Case):
    with tempfile.TemporaryDirectory() as folder, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        manager.settimeout(SECONDS)
        done = run_client(
            case, "/s", sys.executable, "-c",
            "import os, socket\n"
            "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto("
            "b'own', os.environ['NOTIFY_SOCKET'])",
            env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"})
        expect_equal("exit status", done.returncode, 0)
        expect_equal("message", manager.recv(100), b"own")


@needs("guest", "namespaces", "tun", limit=120)
def qemu_with_descriptor_3_reaches_its_network_after_each_of_ten_kills(
        case: Case):
    daemon = case.own(L2Daemon(case.folder))
    daemon.start()
    guest = case.own(Guest(case.folder, "socket,id=n0,fd=3",
                           L2Daemon.GUEST_ADDRESS,
                           prefix=[client(case), daemon.socket]))
    reach = f"until ping -q -c 1 -W 1 {L2Daemon.ADDRESS}; do :; done"
    guest.run(reach)
    for _ in range(10):
        daemon.kill()
        daemon.start()
        guest.run(reach)
        daemon.supervise()
    guest.power_off()
    expect_equal("exit status", guest.process.wait(), 0)
    expect_no_forwarder(case)
