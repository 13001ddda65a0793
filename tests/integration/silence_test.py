"""Peers that die without a word, and live ones that look as if they had."""

from __future__ import annotations

import json
import os
import signal
import time

from daemons import Iperf3Server
from forwarder import Forwarder
from harness import (Case, Process, expect, expect_equal, needs, wait_for)
from netns import PORT, ForwarderIn, Host, Switch, connections, flow_of
from peers import (MAC, Bridge, Child, FakeDaemon, flood, frame, number_of,
                   numbers, swallow)
from probes import (ROUTER_MAC, Corner, answer_a_ping, arp_answer, busy_daemon,
                    deaf_daemon, echo_daemon, fall_silent, is_probe_for,
                    last_told, meet, next_where, wait_for_time_of)

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


def expect_resumed(bridge: Bridge) -> None:
    meet(bridge)
    expect_equal("outages", bridge.status()["network"]["outages"], 1)


# --- a host that vanished -----------------------------------------------------

class Vanishing:
    """A peer on TCP that falls silent, and when it was last heard of."""

    def __init__(self, case: Case, name: str, options: list[str],
                 sends: bool) -> None:
        self.name = name
        self.sends = sends
        self.bridge = Bridge(Corner(case, name), options,
                             FakeDaemon().start())
        self.connection = meet(self.bridge)
        self.last = 0.0

    def vanish(self) -> None:
        self.last = self.say_last_word()
        fall_silent(self.connection.socket)
        if self.sends:
            self.bridge.guest.send(frame(1))
            self.last = max(self.last, self.unanswered_since())

    def say_last_word(self) -> float:
        raise NotImplementedError

    def unanswered_since(self) -> float:
        return 0.0

    def seconds(self) -> float:
        return wait_for_time_of(self.bridge.forwarder.log_text, LOST) \
            - self.last


class VanishingFromTcp(Vanishing):
    def say_last_word(self) -> float:
        now = time.time()
        self.connection.send(frame(2))
        expect_equal("last frame", number_of(self.bridge.guest.receive()), 2)
        return now

    def unanswered_since(self) -> float:
        return time.time()


class VanishingFromPeer(Vanishing):
    def say_last_word(self) -> float:
        return answer_a_ping(self.connection)


class VanishingGateway(Vanishing):
    def say_last_word(self) -> float:
        next_where(self.connection, lambda one: is_probe_for(GATEWAY, one))
        self.connection.send(arp_answer((ROUTER_MAC, GATEWAY),
                                        (MAC, "0.0.0.0")))
        return time.time()


@needs("filter")
def host_that_vanished_is_found_by_tcp_and_by_every_kind_of_probe_in_time(
        case: Case):
    arp = ["keepalive.mode=arp", f"keepalive.gateway={GATEWAY}", *PROBING]
    by_tcp = [VanishingFromTcp(case, "tcp-idle", TCP, sends=False),
              VanishingFromTcp(case, "tcp-unacknowledged", TCP, sends=True)]
    by_probe = [VanishingFromPeer(case, "peer-idle", PEER, sends=False),
                VanishingFromPeer(case, "peer-unacknowledged", PEER,
                                  sends=True),
                VanishingGateway(case, "arp-idle", arp, sends=False)]
    for one in by_probe + by_tcp:
        one.vanish()
    for one in by_probe:
        expect_about(one.name, one.seconds(), LIMIT)
        expect_equal("lines", len(one.bridge.log_lines(DEATH)), 1)
        keepalive = one.bridge.status()["keepalive"]
        expect_equal("deaths", keepalive["deaths"], 1)
        expect(keepalive["probes"] >= COUNT + 1, "expected probes")
    for one in by_tcp:
        # With data on its way TCP_USER_TIMEOUT counts from the first
        # retransmission, which on the loopback is 0.4 s after the frame.
        expect_about(one.name, one.seconds(), 3, 0.2 if one.sends else 0.05)
        reason = one.bridge.log_lines(LOST)[0]
        expect("timed out" in reason, f"expected a time-out, found {reason}")
        expect_equal("deaths", one.bridge.status()["keepalive"]["deaths"], 0)
    for one in by_probe + by_tcp:
        expect_resumed(one.bridge)


# --- a daemon that froze ------------------------------------------------------

def expect_echo(bridge: Bridge, number: int) -> None:
    """Sent until it comes back: frames a dead daemon got are lost."""
    def comes_back() -> bool:
        bridge.guest.send(frame(number))
        return number in numbers(bridge.guest.drain())
    wait_for("a frame to come back", comes_back)


@needs()
def frozen_daemon_is_found_by_its_missing_answers(case: Case):
    bridge = Bridge(case, PEER)
    daemon = case.own(Child(echo_daemon, bridge.daemon))
    expect_echo(bridge, 1)
    wait_for("the daemon to have answered",
             lambda: bridge.status()["keepalive"]["armed"])
    daemon.signal(signal.SIGSTOP)
    died = wait_for_time_of(bridge.forwarder.log_text, DEATH)
    expect_about("frozen, peer mode", died - last_told(daemon.hear()), LIMIT)
    daemon.signal(signal.SIGCONT)
    expect_echo(bridge, 2)
    status = bridge.status()
    expect_equal("outages", status["network"]["outages"], 1)
    expect_equal("deaths", status["keepalive"]["deaths"], 1)


@needs()
def frozen_daemon_is_found_by_a_write_that_makes_no_progress(case: Case):
    find_by_write(case, 5000, 1514)


@needs()
def frozen_daemon_is_found_by_a_write_that_took_half_a_frame(case: Case):
    find_by_write(case, 500, 60000)


def find_by_write(case: Case, frames_per_s: int, size: int) -> None:
    bridge = Bridge(case, ["keepalive.mode=passive", "network.write_stall=1s"])
    daemon = case.own(Child(echo_daemon, bridge.daemon))
    expect_echo(bridge, 1)
    daemon.signal(signal.SIGSTOP)
    stopped = time.time()
    guest = case.own(Child(flood, bridge.guest, frames_per_s, [size]))
    found = wait_for_time_of(bridge.forwarder.log_text, LOST) - stopped
    # The socket's buffer has to fill first.
    expect_about("frozen, write stall", found, 1, over=0.5)
    expect("no progress" in bridge.log_lines(LOST)[0], "expected the reason")
    guest.kill()
    daemon.signal(signal.SIGCONT)
    expect_echo(bridge, 1 << 40)
    status = bridge.status()
    expect_equal("outages", status["network"]["outages"], 1)
    expect(status["keepalive"]["write_stalls"] >= 1, "expected a write stall")


# --- two hosts, a switch between ----------------------------------------------

class TwoHosts:
    """Two forwarders on two hosts make one Ethernet of two TAP devices: near
    calls, far listens."""

    NEAR, FAR = "192.0.2.1", "192.0.2.2"

    def __init__(self, case: Case, options: list[str]) -> None:
        self.switch = case.own(Switch())
        self.near_host = case.own(Host(self.switch, 1))
        self.far_host = case.own(Host(self.switch, 2))
        self.far = case.own(ForwarderIn(
            self.far_host, case.folder,
            f"listen-tcp:{self.far_host.address}:{PORT}", "tap:vm0",
            [f"network.allow={self.near_host.address}/32", *options], "far"))
        self.near = case.own(ForwarderIn(
            self.near_host, case.folder,
            f"tcp:{self.far_host.address}:{PORT}", "tap:vm0", options, "near"))
        self.near_host.ip(f"address add {self.NEAR}/24 dev vm0")
        self.far_host.ip(f"address add {self.FAR}/24 dev vm0")
        for forwarder in (self.near, self.far):
            forwarder.wait_until_up()

    def expect_ping(self) -> None:
        self.near_host.run("busybox", "ping", "-q", "-c", 2, "-i", "0.2",
                           "-w", 8, self.FAR)

    def wait_until_armed(self) -> None:
        for forwarder in (self.near, self.far):
            wait_for("the other side's answer",
                     lambda: forwarder.status()["keepalive"]["armed"])


def last_byte_time(forwarder: Forwarder) -> float:
    """By the wall clock, to some milliseconds."""
    idle_ms = forwarder.status()["keepalive"]["idle_ms"]
    return time.time() - idle_ms / 1000


@needs("namespaces", "tun", "iperf3", "busybox", limit=90)
def tcp_session_outlives_a_cable_that_was_out_for_ten_seconds(case: Case):
    # An acknowledgement that is held for the whole outage would be taken for a
    # round trip of ten seconds: the next retransmission is three times that.
    hosts = TwoHosts(case, [*PEER, *TCP[1:], "network.hold=0"])
    hosts.wait_until_armed()
    case.own(Iperf3Server(case.folder, hosts.far_host, hosts.FAR))
    report = case.path("iperf3-client.json")
    client = case.own(Process(
        hosts.near_host.enter("iperf3", "--json", "--client", hosts.FAR,
                              "--time", 30), report))
    wait_for("the session to get going", lambda: hosts.near.status()
             ["guest_to_network"]["frames"] > 1000)

    hosts.switch.cut(hosts.near_host)
    cut = time.time()
    lasts = [last_byte_time(one) for one in (hosts.near, hosts.far)]
    for forwarder, last, name in zip((hosts.near, hosts.far), lasts,
                                     ("near", "far")):
        # By unanswered probes; or by TCP, where the writer was blocked so that
        # no probe could be sent, which counts from its first repeat.
        died = wait_for_time_of(forwarder.log_text, LOST)
        expect_about(f"cable cut, {name} side", died - last, LIMIT, 0.25)
    time.sleep(max(0.0, cut + 10 - time.time()))
    hosts.switch.mend(hosts.near_host)
    mended = time.time()
    for forwarder in (hosts.near, hosts.far):
        forwarder.wait_until_up()
    print(f"    path mended: both up after {time.time() - mended:.2f} s")

    expect_equal("status of iperf3", client.wait(40), 0)
    session = json.loads(report.read_text())
    rates = [one["sum"]["bytes"] for one in session["intervals"]]
    expect(0 in rates, "expected the outage to be felt")
    expect(all(rates[-2:]), f"expected traffic at the end, found {rates}")
    hosts.expect_ping()
    for forwarder in (hosts.near, hosts.far):
        status = forwarder.status()
        expect_equal("outages", status["network"]["outages"], 1)
        expect_equal("generation", status["network"]["generation"], 2)


@needs("namespaces", "tun", "nft", "busybox")
def connection_that_a_firewall_forgot_is_replaced_by_a_new_one(case: Case):
    hosts = TwoHosts(case, PEER)
    hosts.expect_ping()
    hosts.wait_until_armed()
    old = flow_of(hosts.near_host)
    hosts.switch.forget(old)
    lasts = [last_byte_time(one) for one in (hosts.near, hosts.far)]
    died = wait_for_time_of(hosts.near.log_text, LOST)
    expect_about("flow forgotten, near side", died - lasts[0], LIMIT)
    # The far side finds it itself, unless the new connection is first.
    died = wait_for_time_of(hosts.far.log_text, LOST)
    expect(died - lasts[1] <= 1.05 * LIMIT, "expected the far side in time")
    hosts.expect_ping()
    new = flow_of(hosts.near_host)
    expect(new != old, "expected another connection")
    expect_equal("connections", len(connections(hosts.far_host)), 1)
    for forwarder in (hosts.near, hosts.far):
        expect_equal("outages", forwarder.status()["network"]["outages"], 1)


# --- no false alarm -----------------------------------------------------------

SHARPEST = ["keepalive.interval=1s", "keepalive.count=1"]
SHARP_PEER = ["keepalive.mode=peer", *SHARPEST]


@needs()
def host_that_slept_asks_once_more_before_it_gives_up(case: Case):
    """Peer and forwarder sleep, in the middle of a probe."""
    bridge = Bridge(case, SHARP_PEER)
    daemon = case.own(Child(echo_daemon, bridge.daemon))

    def keepalive() -> dict:
        return bridge.status()["keepalive"]
    wait_for("the daemon to have answered", lambda: keepalive()["armed"])
    daemon.signal(signal.SIGSTOP)
    asked = keepalive()["probes"]
    wait_for("a probe without an answer",
             lambda: keepalive()["probes"] == asked + 1)
    bridge.forwarder.process.signal(signal.SIGSTOP)
    time.sleep(2)
    bridge.forwarder.process.signal(signal.SIGCONT)
    wait_for("one more probe", lambda: keepalive()["probes"] == asked + 2, 0.5)
    daemon.signal(signal.SIGCONT)
    wait_for("an answer", lambda: keepalive()["idle_ms"] < 500)
    expect_equal("deaths", keepalive()["deaths"], 0)
    expect_echo(bridge, 1)
    expect_equal("generation", bridge.status()["network"]["generation"], 1)


class Scene:
    """A live peer that a hasty forwarder would take for dead."""

    options = SHARP_PEER
    peer = echo_daemon
    peer_arguments = ()

    def __init__(self, case: Case) -> None:
        self.name = type(self).__name__.lower()
        self.case = Corner(case, self.name)
        self.bridge = Bridge(self.case, self.options, FakeDaemon(
            self.case.path("net.sock")).start())
        self.child = case.own(Child(type(self).peer, self.bridge.daemon,
                                    *self.peer_arguments))
        self.bridge.guest.send(frame(0))

    def arm(self) -> None:
        wait_for("the peer to have answered",
                 lambda: self.bridge.status()["keepalive"]["armed"])

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


class QuietLan(Scene):
    """Its gateway never answers."""

    options = ["keepalive.mode=arp", f"keepalive.gateway={GATEWAY}", *SHARPEST]
    peer = deaf_daemon

    def arm(self) -> None:
        wait_for("the probe", lambda:
                 self.bridge.status()["keepalive"]["probes"] == 1)

    def end(self) -> None:
        super().end()
        keepalive = self.bridge.status()["keepalive"]
        expect_equal("armed", keepalive["armed"], False)
        minutes = FALSE_ALARM_SECONDS / 60
        expect(1 <= keepalive["probes"] <= 2 + minutes,
               "expected a probe a minute")
        expect_equal("lines", len(self.bridge.log_lines(
            "info keepalive: the peer has answered no probe")), 1)


class LoadBothWays(Scene):
    peer = busy_daemon
    peer_arguments = (1,)

    def start(self) -> None:
        for work in (Child(flood, self.bridge.guest, 20000, [1514]),
                     Child(swallow, self.bridge.guest.socket)):
            self.case.own(work)

    def end(self) -> None:
        super().end()
        for direction in ("guest_to_network", "network_to_guest"):
            expect(self.bridge.status()[direction]["frames"]
                   > 100 * FALSE_ALARM_SECONDS, "expected a load")


class LoadOutward(Scene):
    """Only the answers to probes, which have to get past the guest's frames,
    tell that the peer lives."""

    peer = busy_daemon
    peer_arguments = (0,)

    def start(self) -> None:
        self.case.own(Child(flood, self.bridge.guest, 5000, [1514]))

    def end(self) -> None:
        super().end()
        expect(self.bridge.status()["keepalive"]["replies"]
               > FALSE_ALARM_SECONDS / 4, "expected probes amid the load")


class PausedGuest(Scene):
    """The forwarder reads nothing for longer than a dead peer is given, as the
    guest takes nothing."""

    options = ["keepalive.mode=peer", "keepalive.interval=400ms",
               "keepalive.count=1", "guest.stall=1s"]
    peer = busy_daemon
    peer_arguments = (1,)

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


class StoppedForwarder(Scene):
    def during_pause(self, begins: bool) -> None:
        self.bridge.forwarder.process.signal(
            signal.SIGSTOP if begins else signal.SIGCONT)

    def end(self) -> None:
        super().end()
        expect_echo(self.bridge, 9)


@needs(limit=int(FALSE_ALARM_SECONDS * 1.5 + 60))
def no_live_peer_is_taken_for_dead(case: Case):
    """FALSE_ALARM_SECONDS=3600 makes it an hour."""
    scenes = [kind(case) for kind in (QuietLan, StoppedForwarder, PausedGuest,
                                      LoadOutward, LoadBothWays)]
    for scene in scenes:
        scene.arm()
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
