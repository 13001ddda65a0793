"""Peers that vanish silently, and live ones that look as if they had."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Callable

from daemons import Iperf3Server
from forwarder import Forwarder
from harness import (Case, Process, above, expect, expect_equal, needs,
                     wait_for)
from netns import PORT, Host, Switch
from peers import (MAC, Bridge, Child, Connection, FakeDaemon, flood, frame,
                   numbers, swallow)
from probes import (ROUTER_MAC, answer_a_ping, arp_answer, busy_daemon,
                    echo_daemon, fall_silent, is_probe_for, meet, next_where,
                    wait_for_time_of)

FALSE_ALARM_SECONDS = float(os.environ.get("FALSE_ALARM_SECONDS", 40))
GATEWAY = "192.0.2.1"
INTERVAL, COUNT = 1, 2
LIMIT = INTERVAL * (COUNT + 1)
PROBING = [f"keepalive.interval={INTERVAL}s", f"keepalive.count={COUNT}"]
PEER = ["keepalive.mode=peer", *PROBING]
TCP = ["keepalive.mode=passive", "keepalive.tcp_idle=1s",
       "keepalive.tcp_interval=1s", "keepalive.tcp_count=2"]
DEATH = f"info keepalive: no response after {COUNT} probes in {LIMIT}s"
LOST = "warn link: lost"


def expect_about(what: str, seconds: float, expected: float,
                 over: float = 0.05) -> None:
    """At most 5 % early, at most `over` late."""
    print(f"    {what}: found after {seconds:.3f} s, expected {expected:.3f}")
    expect(0.95 * expected <= seconds <= (1 + over) * expected,
           f"{what}: expected to be found after {expected} s,"
           f" not {seconds:.3f}")


# --- a host that vanished -----------------------------------------------------

class Vanishing:
    """A peer on TCP that falls silent after a last frame, whose time
    last_word() returns. What the guest sends later is never acknowledged."""

    def __init__(self, case: Case, name: str, options: list[str],
                 last_word: Callable, sends: bool = False) -> None:
        self.name, self.last_word, self.sends = name, last_word, sends
        self.bridge = Bridge(case.corner(name), options, FakeDaemon().start())
        self.connection = meet(self.bridge)
        self.last = 0.0

    def vanish(self) -> None:
        self.last = self.last_word(self.connection)
        fall_silent(self.connection.socket)
        if self.sends:
            self.bridge.guest.send(1)
            if self.last_word is send_a_frame:  # the time counts from here
                self.last = time.time()

    def seconds(self) -> float:
        return wait_for_time_of(self.bridge, LOST) - self.last


def send_a_frame(connection: Connection) -> float:
    connection.send(2)
    return time.time()


def answer_for_the_gateway(connection: Connection) -> float:
    next_where(connection, lambda one: is_probe_for(GATEWAY, one))
    connection.send(arp_answer((ROUTER_MAC, GATEWAY), (MAC, "0.0.0.0")))
    return time.time()


@needs("filter")
def vanished_host_is_detected_in_time_by_tcp_and_every_kind_of_probe(
        case: Case):
    arp = ["keepalive.mode=arp", f"keepalive.gateway={GATEWAY}", *PROBING]
    by_tcp = [Vanishing(case, "tcp-idle", TCP, send_a_frame),
              Vanishing(case, "tcp-unacknowledged", TCP, send_a_frame, True)]
    by_probe = [Vanishing(case, "peer-idle", PEER, answer_a_ping),
                Vanishing(case, "peer-unacknowledged", PEER, answer_a_ping,
                          True),
                Vanishing(case, "arp-idle", arp, answer_for_the_gateway)]
    for one in by_probe + by_tcp:
        one.vanish()
    for one in by_probe:
        expect_about(one.name, one.seconds(), LIMIT)
        one.bridge.until_lines(DEATH, 1)
        one.bridge.until("keepalive.deaths", 1)
        one.bridge.until("keepalive.probes", above(COUNT))
    for one in by_tcp:
        # With data on its way TCP_USER_TIMEOUT counts from the first
        # retransmission, which on the loopback is 0.4 s after the frame.
        expect_about(one.name, one.seconds(), 3, 0.2 if one.sends else 0.05)
        one.bridge.until_line(LOST, "timed out")
        one.bridge.until("keepalive.deaths", 0)
    for one in by_probe + by_tcp:
        one.bridge.guest.drain()
        meet(one.bridge)
        one.bridge.until("network.outages", 1)


# --- a daemon that froze ------------------------------------------------------

def expect_echo(bridge: Bridge, number: int) -> None:
    """Sent until it comes back: frames a dead daemon got are lost."""
    def comes_back() -> bool:
        bridge.guest.send(number)
        return number in numbers(bridge.guest.drain())
    wait_for("a frame to come back", comes_back)


@needs()
def frozen_daemon_is_detected_by_a_write_without_progress(case: Case):
    bridge = Bridge(case, ["keepalive.mode=passive", "network.write_stall=1s"])
    daemon = case.own(Child(echo_daemon, bridge.daemon))
    expect_echo(bridge, 1)
    daemon.signal(signal.SIGSTOP)
    stopped = time.time()
    guest = case.own(Child(flood, bridge.guest, 500, [60000]))
    found = wait_for_time_of(bridge, LOST) - stopped
    # The socket's buffer has to fill first.
    expect_about("frozen, write stall", found, 1, over=0.5)
    bridge.until_line(LOST, "no progress")
    guest.kill()
    daemon.signal(signal.SIGCONT)
    expect_echo(bridge, 1 << 40)
    bridge.until("network.outages", 1)
    bridge.until("keepalive.write_stalls", above(0))


# --- two hosts, a switch between ----------------------------------------------

class TwoHosts:
    """Two forwarders on two hosts make one Ethernet of two TAP devices: near
    calls, far listens."""

    NEAR, FAR = "192.0.2.1", "192.0.2.2"

    def __init__(self, case: Case, options: list[str]) -> None:
        self.switch = case.own(Switch())
        self.near_host = case.own(Host(self.switch, 1))
        self.far_host = case.own(Host(self.switch, 2))
        self.far = Forwarder(
            case, f"listen-tcp:{self.far_host.address}:{PORT}", "tap:vm0",
            [f"network.allow={self.near_host.address}/32", *options],
            name="far", host=self.far_host)
        self.near = Forwarder(
            case, f"tcp:{self.far_host.address}:{PORT}", "tap:vm0", options,
            name="near", host=self.near_host)
        self.both = (self.near, self.far)
        self.near_host.ip(f"address add {self.NEAR}/24 dev vm0")
        self.far_host.ip(f"address add {self.FAR}/24 dev vm0")
        for forwarder in self.both:
            forwarder.until("network.state", "up")

    def expect_ping(self) -> None:
        self.near_host.run("busybox", "ping", "-q", "-c", 2, "-i", "0.2",
                           "-w", 8, self.FAR)

    def wait_until_armed(self) -> None:
        for forwarder in self.both:
            forwarder.until("keepalive.armed", True)


def last_byte_time(forwarder: Forwarder) -> float:
    """By the wall clock, to some milliseconds."""
    return time.time() - forwarder.value("keepalive.idle_ms") / 1000


@needs("namespaces", "tun", "iperf3", "busybox", limit=90)
def tcp_session_survives_an_unplugged_cable_for_ten_seconds(case: Case):
    # An acknowledgement that is held for the whole outage would be taken for a
    # round trip of ten seconds: the next retransmission is three times that.
    hosts = TwoHosts(case, [*PEER, *TCP[1:], "network.hold=0"])
    hosts.wait_until_armed()
    case.own(Iperf3Server(case.folder, hosts.far_host, hosts.FAR))
    report = case.path("iperf3-client.json")
    client = case.own(Process(
        hosts.near_host.enter("iperf3", "--json", "--client", hosts.FAR,
                              "--time", 30), report))
    hosts.near.until("up.frames", above(1000))

    hosts.switch.cut(hosts.near_host)
    cut = time.time()
    lasts = [last_byte_time(one) for one in hosts.both]
    for forwarder, last in zip(hosts.both, lasts):
        # By unanswered probes; or by TCP, where the writer was blocked so that
        # no probe could be sent, which counts from its first repeat.
        died = wait_for_time_of(forwarder, LOST)
        expect_about(f"cable cut, {forwarder.name} side", died - last, LIMIT,
                     0.25)
    time.sleep(max(0.0, cut + 10 - time.time()))
    hosts.switch.mend(hosts.near_host)
    mended = time.time()
    for forwarder in hosts.both:
        forwarder.until("network.state", "up")
    print(f"    path mended: both up after {time.time() - mended:.2f} s")

    expect_equal("status of iperf3", client.wait(40), 0)
    session = json.loads(report.read_text())
    rates = [one["sum"]["bytes"] for one in session["intervals"]]
    expect(0 in rates, "expected the outage to be felt")
    expect(all(rates[-2:]), f"expected traffic at the end, found {rates}")
    hosts.expect_ping()
    for forwarder in hosts.both:
        forwarder.until("network.outages", 1)
        forwarder.until("network.generation", 2)


# --- no false alarm -----------------------------------------------------------

class Scene:
    """A live peer that a hasty forwarder would take for dead."""

    options = ["keepalive.mode=peer", "keepalive.interval=1s",
               "keepalive.count=1"]
    talks = 1

    def __init__(self, case: Case) -> None:
        self.name = type(self).__name__.lower()
        self.case = case.corner(self.name)
        self.bridge = Bridge(self.case, self.options, FakeDaemon(
            self.case.path("net.sock")).start())
        case.own(Child(busy_daemon, self.bridge.daemon, self.talks))
        self.bridge.guest.send(0)
        self.bridge.until("keepalive.armed", True)

    def start(self) -> None:
        pass

    def during_pause(self, begins: bool) -> None:
        """Called in turn, with most of the time in the pause."""

    def end(self) -> None:
        status = self.bridge.status()
        print(f"    {self.name}: {status['keepalive']}"
              f" up {status['guest_to_network']['frames']}"
              f" down {status['network_to_guest']['frames']}")
        for name in ("deaths", "write_stalls"):
            expect_equal(f"{self.name}: {name}", status["keepalive"][name], 0)
        expect_equal(f"{self.name}: generation",
                     status["network"]["generation"], 1)
        expect_equal(f"{self.name}: outages", status["network"]["outages"], 0)


class LoadBothWays(Scene):
    def start(self) -> None:
        for work in (Child(flood, self.bridge.guest, 20000, [1514]),
                     Child(swallow, self.bridge.guest.socket)):
            self.case.own(work)

    def end(self) -> None:
        super().end()
        for direction in ("up", "down"):
            expect(self.bridge.value(f"{direction}.frames")
                   > 100 * FALSE_ALARM_SECONDS, "expected a load")


class LoadOutward(Scene):
    """Only answers to probes, which have to pass the guest's frames, show that
    the peer is alive."""

    talks = 0

    def start(self) -> None:
        self.case.own(Child(flood, self.bridge.guest, 5000, [1514]))

    def end(self) -> None:
        super().end()
        expect(self.bridge.value("keepalive.replies")
               > FALSE_ALARM_SECONDS / 4, "expected probes amid the load")


class PausedGuest(Scene):
    """The forwarder reads nothing for longer than a dead peer is given, as the
    guest takes nothing."""

    options = ["keepalive.mode=peer", "keepalive.interval=400ms",
               "keepalive.count=1", "guest.stall=1s"]

    def start(self) -> None:
        self.reader = None
        self.during_pause(False)
        self.bridge.guest.send(frame(0, 1514))

    def during_pause(self, begins: bool) -> None:
        if begins:
            self.reader.kill()
        else:
            self.reader = self.case.own(
                Child(swallow, self.bridge.guest.socket))


@needs(limit=int(FALSE_ALARM_SECONDS * 1.5 + 60))
def no_live_peer_is_taken_for_dead(case: Case):
    """FALSE_ALARM_SECONDS=3600 makes it an hour."""
    scenes = [kind(case) for kind in (PausedGuest, LoadOutward, LoadBothWays)]
    for scene in scenes:
        scene.start()
    pause = min(60.0, FALSE_ALARM_SECONDS * 0.35)
    end = time.monotonic() + FALSE_ALARM_SECONDS
    while time.monotonic() < end:
        for begins, seconds in ((True, pause), (False, pause / 3)):
            for scene in scenes:
                scene.during_pause(begins)
            time.sleep(min(seconds, max(0.0, end - time.monotonic())))
    for scene in scenes:
        scene.during_pause(False)
        scene.end()
