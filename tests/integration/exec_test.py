"""network = exec: the forwarder starts the daemon, looks after it, and ends
it. The suites child, supervisor and fwd_link test the parts."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from daemons import Iperf3Server, L2Daemon, Passt
from forwarder import Forwarder
from harness import (Case, Namespace, expect, expect_equal, needs,
                     process_exists, wait_for, wait_until)
from peers import WithGuest, bound_guest, descriptors
from vm import Guest, received_bytes

INTERVAL, COUNT = 0.5, 3
KEEPALIVE = [f"keepalive.interval={int(INTERVAL * 1000)}ms",
             f"keepalive.count={COUNT}"]


def daemon_of(forwarder: Forwarder) -> int:
    return forwarder.value("network.daemon.pid")


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
    forwarder = Forwarder(
        case, "exec:passt --foreground --stderr --ipv4-only --fd {fd}",
        f"unixgram:{case.path('guest.sock')}", KEEPALIVE, host=passt.namespace)
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
