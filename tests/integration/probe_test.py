"""What the forwarder asks a quiet network, in whose name, and what becomes of
the answers: seen from the other end, byte for byte."""

from __future__ import annotations

import signal
import socket
import sys
import time
from typing import Callable

from daemons import Passt
from forwarder import Forwarder
from harness import Case, Process, expect, expect_equal, needs, wait_for
from peers import (BROADCAST, IPV4, MAC, Bridge, Connection, FakeDaemon,
                   FakeGuest, frame, guest_on_path, number_of, raw_frame)
from probes import (ARP, NOBODY_YET, OTHER_MAC, OURS, PING, PONG, ROUTER_MAC,
                    Corner, answer_a_ping, arp_answer, arp_question,
                    between_forwarders, datagram, dhcp_acknowledgement,
                    dhcp_from_guest, is_of_kind, is_probe_for, is_type, meet,
                    next_numbered, next_where, packet, ping, pong, sequence_of,
                    tcp_call, what_comes)

GUEST, GATEWAY = "192.0.2.2", "192.0.2.1"
OTHER_GATEWAY = "192.0.2.254"
OFTEN = ["keepalive.interval=200ms", "keepalive.count=100"]
BY_ARP = ["keepalive.mode=arp", *OFTEN]
TO_GUEST = (MAC, "0.0.0.0")
LAST = frame(999)


def keepalive(bridge: Bridge) -> dict:
    return bridge.status()["keepalive"]


def next_probe(connection: Connection, gateway: str = GATEWAY) -> bytes:
    return next_where(connection, lambda one: is_probe_for(gateway, one))


def expect_only(bridge: Bridge, *expected: bytes) -> None:
    """The guest gets these frames, then LAST."""
    got = [bridge.guest.receive()]
    while got[-1] != LAST:
        got.append(bridge.guest.receive())
    expect_equal("what the guest got", got[:-1], list(expected))


# --- the question -------------------------------------------------------------

@needs()
def nothing_is_asked_before_the_guest_is_known(case: Case):
    bridge = Bridge(case, [*BY_ARP, f"keepalive.gateway={GATEWAY}"])
    connection = bridge.accept()
    connection.send(frame(1))
    expect_equal("what is sent in five intervals",
                 what_comes(connection, 1), [])
    expect_equal("mode", keepalive(bridge)["mode"], "passive")
    bridge.guest.send(frame(1))
    next_probe(connection)
    expect_equal("mode", keepalive(bridge)["mode"], "arp")


@needs()
def probing_begins_with_the_guests_first_frame(case: Case):
    """Once it began two seconds late, or never: the thread that probes was
    woken before the guest's MAC could be read."""
    bridges = [Bridge(Corner(case, str(number)), [
        *BY_ARP, f"keepalive.gateway={GATEWAY}"]) for number in range(12)]
    connections = [bridge.accept() for bridge in bridges]
    for connection in connections:
        connection.send(frame(1))  # or the proof of life would wake it again
    for bridge in bridges:
        bridge.guest.send(frame(1))
        wait_for("it to begin", lambda: keepalive(bridge)["mode"] == "arp")
    for connection in connections:
        connection.socket.settimeout(1)
        next_probe(connection)


@needs()
def gateway_is_asked_in_the_form_of_rfc_5227_and_by_name_once_it_is_known(
        case: Case):
    bridge = Bridge(case, [*BY_ARP, f"keepalive.gateway={GATEWAY}"])
    connection = meet(bridge)
    asked = next_where(connection, lambda one: is_type(ARP, one))
    expect_equal("first probe", asked.hex(" "), (
        BROADCAST + MAC + bytes.fromhex("0806 0001 0800 06 04 0001")
        + MAC + bytes(4) + bytes(6) + socket.inet_aton(GATEWAY)
        + bytes(18)).hex(" "))
    connection.send(arp_answer((ROUTER_MAC, GATEWAY), TO_GUEST))
    asked = next_where(connection, lambda one: is_type(ARP, one))
    expect_equal("second probe", asked.hex(" "), arp_question(
        TO_GUEST, GATEWAY, ROUTER_MAC).hex(" "))
    connection.send(arp_answer((ROUTER_MAC, GATEWAY), TO_GUEST))
    # It moves: unanswered, the question goes to everybody again.
    next_where(connection, lambda one: is_probe_for(GATEWAY, one)
               and one[:6] == BROADCAST)
    connection.send(arp_answer((OTHER_MAC, GATEWAY), TO_GUEST))
    next_where(connection, lambda one: is_probe_for(GATEWAY, one)
               and one[:6] == OTHER_MAC)


@needs()
def answers_to_our_probes_are_ours_and_those_to_the_guest_the_guests(
        case: Case):
    bridge = Bridge(case, [*BY_ARP, f"keepalive.gateway={GATEWAY}"])
    connection = meet(bridge)
    before = keepalive(bridge)
    expect_equal("armed", before["armed"], False)
    expect_equal("replies", before["replies"], 0)
    ours = arp_answer((ROUTER_MAC, GATEWAY), TO_GUEST)
    guests = arp_answer((ROUTER_MAC, GATEWAY), (MAC, GUEST))
    for round_number in (1, 2):
        next_probe(connection)
        # The guest's own question crosses ours.
        bridge.guest.send(arp_question((MAC, GUEST), GATEWAY))
        next_where(connection, lambda one: one == arp_question(
            (MAC, GUEST), GATEWAY))
        connection.send(guests, ours)
        now = wait_for("the answer to be counted", lambda: keepalive(bridge)
                       ["replies"] == round_number and keepalive(bridge))
        expect(now["armed"] and now["rtt_us"] > 0 and now["mode"] == "arp",
               f"expected an answered probe, found {now}")
        expect(now["probes"] >= round_number and now["idle_ms"] < 1000,
               f"expected the probe to be counted, found {now}")
    # Somebody else's question is no concern of ours.
    stranger = arp_question((OTHER_MAC, "192.0.2.7"), GUEST)
    connection.send(stranger, LAST)
    expect_only(bridge, guests, guests, stranger)
    expect_equal("deaths", keepalive(bridge)["deaths"], 0)


# --- who the gateway is -------------------------------------------------------

@needs()
def gateway_is_learned_from_a_dhcp_acknowledgement_passing_by(case: Case):
    bridge = Bridge(case, BY_ARP)
    connection = meet(bridge)
    expect_equal("mode", keepalive(bridge)["mode"], "passive")
    acknowledgement = dhcp_acknowledgement(GATEWAY, GUEST, OTHER_GATEWAY)
    connection.send(acknowledgement, LAST)
    next_probe(connection, OTHER_GATEWAY)
    expect_equal("mode", keepalive(bridge)["mode"], "arp")
    expect_only(bridge, acknowledgement)


@needs()
def gateway_is_learned_from_what_the_guest_sends_through_it(case: Case):
    """Which is what `auto` needs on TCP, where it is passive until then."""
    bridge = Bridge(case, OFTEN, FakeDaemon().start())
    connection = meet(bridge)
    expect_equal("mode", keepalive(bridge)["mode"], "passive")
    bridge.guest.send(arp_question((MAC, GUEST), GATEWAY))
    connection.send(arp_answer((ROUTER_MAC, GATEWAY), (MAC, GUEST)))
    bridge.guest.receive()
    bridge.guest.send(raw_frame(packet(17, GUEST, "198.51.100.9", bytes(20)),
                                target=ROUTER_MAC))
    asked = next_probe(connection)
    expect_equal("to whom", asked[:6], ROUTER_MAC)
    expect_equal("mode", keepalive(bridge)["mode"], "arp")


@needs()
def a_unix_socket_is_left_alone_by_default_and_interval_0_never_probes(
        case: Case):
    gateway = f"keepalive.gateway={GATEWAY}"
    quiet = {
        "auto": ["keepalive.interval=100ms", gateway],
        "off": ["keepalive.interval=100ms", "keepalive.mode=off", gateway],
        "passive": ["keepalive.interval=100ms", "keepalive.mode=passive"],
        "arp-0": ["keepalive.interval=0", "keepalive.mode=arp", gateway],
        "peer-0": ["keepalive.interval=0", "keepalive.mode=peer"],
    }
    bridges = [Bridge(Corner(case, name), options)
               for name, options in quiet.items()]
    connections = [bridge.meet() for bridge in bridges]
    time.sleep(0.5)
    for connection in connections:
        expect_equal("what is sent", what_comes(connection, 0), [])
    for bridge in bridges:
        status = bridge.status()
        expect_equal("probes", status["keepalive"]["probes"], 0)
        expect_equal("generation", status["network"]["generation"], 1)


# --- between forwarders -------------------------------------------------------

@needs()
def ping_and_pong_are_as_documented_and_never_reach_the_guest(case: Case):
    bridge = Bridge(case, ["keepalive.mode=peer", *OFTEN])
    connection = bridge.accept()
    first = next_where(connection, lambda one: is_type(OURS, one))
    expect_equal("PING before a guest", first.hex(" "), between_forwarders(
        PING, sequence_of(first), NOBODY_YET).hex(" "))
    bridge.guest.send(frame(1))
    expect_equal("the guest's frame", next_numbered(connection), 1)
    second = next_where(connection, lambda one: is_type(OURS, one))
    expect_equal("PING", second.hex(" "), between_forwarders(
        PING, sequence_of(second), MAC).hex(" "))

    connection.send(pong(sequence_of(second) + 1000), frame(2))
    expect_equal("the guest's frame", number_of(bridge.guest.receive()), 2)
    expect_equal("replies", keepalive(bridge)["replies"], 0)

    def answered() -> bool:
        """In time for its round trip to be told: before the next PING."""
        answer_a_ping(connection)
        return keepalive(bridge)["rtt_us"] > 0
    wait_for("an answered PING", answered)
    now = keepalive(bridge)
    expect(now["armed"] and now["replies"] > 0 and now["mode"] == "peer",
           f"expected an answered PING, found {now}")
    connection.send(ping(77))
    answer = next_where(connection, lambda one: is_of_kind(PONG, one))
    expect_equal("PONG", answer.hex(" "),
                 between_forwarders(PONG, 77, MAC).hex(" "))
    expect_equal("answered", keepalive(bridge)["answered"], 1)
    # Its EtherType is for anybody's experiments: others' are forwarded.
    foreign = raw_frame(b"something else".ljust(46, b"\0"), OURS, OTHER_MAC)
    connection.send(ping(78), pong(3), foreign, LAST)
    expect_only(bridge, foreign)


@needs()
def flood_of_pings_is_answered_ten_times_a_second_in_every_mode(case: Case):
    modes = ["off", "passive", "arp", "peer", "auto"]
    bridges = [Bridge(Corner(case, mode), [f"keepalive.mode={mode}"])
               for mode in modes]
    connections = [bridge.meet() for bridge in bridges]
    started = time.monotonic()
    sequence = 0
    while time.monotonic() < started + 1.5:
        for connection in connections:
            connection.send(*(ping(sequence + i) for i in range(50)))
        sequence += 50
    seconds = time.monotonic() - started
    for mode, bridge, connection in zip(modes, bridges, connections):
        pongs = [one for one in what_comes(connection, 0.1)
                 if is_of_kind(PONG, one)]
        expect(10 <= len(pongs) <= 10 * (int(seconds + 0.3) + 1),
               f"{mode}: expected ten PONGs a second, found {len(pongs)} for"
               f" {sequence} PINGs in {seconds:.1f} s")
        expect_equal("answered", keepalive(bridge)["answered"], len(pongs))
        connection.send(LAST)
        expect_only(bridge)


# --- a real gateway -----------------------------------------------------------

# Answers a datagram when it is signalled to.
LATE_ANSWER = """
import signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 7777))
print("bound", flush=True)
data, client = server.recvfrom(100)
print("asked", flush=True)
signal.sigwait([signal.SIGUSR1])
server.sendto(data, client)
"""


def wait_for_frame(guest: FakeGuest, what: str,
                   wanted: Callable[[bytes], bool]) -> bytes:
    def receive():
        one = guest.receive()
        return one if wanted(one) else None
    return wait_for(what, receive)


@needs("passt", "namespaces")
def passt_answers_the_probes_and_goes_on_knowing_the_guest(case: Case):
    passt = case.own(Passt(case.folder))
    passt.start()
    server = case.own(Process(passt.namespace.enter(
        sys.executable, "-c", LATE_ANSWER), case.path("server.log")))
    forwarder = case.own(Forwarder(
        case.folder, f"unix:{passt.socket}",
        f"unixgram:{case.path('guest.sock')}",
        ["keepalive.mode=arp", "keepalive.interval=200ms",
         "keepalive.count=2"]))
    guest = case.own(guest_on_path(case.path("vm.sock"),
                                   case.path("guest.sock")))

    def server_says(word: str) -> None:
        wait_for(f"the server to say {word}",
                 lambda: word in server.log.read_text())

    def is_dhcp(one: bytes) -> bool:
        return one[34:38] == bytes([0, 67, 0, 68])

    def is_ipv4(protocol: int, one: bytes) -> bool:
        return is_type(IPV4, one) and one[23] == protocol

    # DHCP tells the gateway: nobody configured it.
    guest.send(dhcp_from_guest(1))
    wait_for_frame(guest, "passt's offer", is_dhcp)
    guest.send(dhcp_from_guest(3))
    wait_for_frame(guest, "passt's acknowledgement", is_dhcp)
    guest.send(arp_question((MAC, Passt.ADDRESS), Passt.GATEWAY))
    answer = wait_for_frame(guest, "passt's answer to the guest",
                            lambda one: is_type(ARP, one))
    expect_equal("whom it is for", answer[32:42],
                 MAC + socket.inet_aton(Passt.ADDRESS))
    gateway_mac = answer[22:28]
    server_says("bound")
    guest.send(raw_frame(datagram((Passt.ADDRESS, 40000),
                                  (Passt.GATEWAY, 7777), b"late"),
                         target=gateway_mac))
    server_says("asked")

    # Ours are the last frames passt has seen when it has one for the guest.
    replies = forwarder.status()["keepalive"]["replies"]
    wait_for("passt to answer probes", lambda: forwarder.status()
             ["keepalive"]["replies"] >= replies + 3)
    server.signal(signal.SIGUSR1)
    late = wait_for_frame(guest, "the late answer",
                          lambda one: is_ipv4(17, one))
    expect_equal("to whose MAC it goes", late[:6], MAC)
    expect_equal("what it says", late[42:46], b"late")
    guest.send(raw_frame(tcp_call((Passt.ADDRESS, 40000), (Passt.GATEWAY, 9)),
                         target=gateway_mac))
    wait_for_frame(guest, "an answer to TCP", lambda one: is_ipv4(6, one))
    status = forwarder.status()
    now = status["keepalive"]
    expect(now["armed"] and now["mode"] == "arp" and now["deaths"] == 0,
           f"expected a live gateway, found {now}")
    expect_equal("generation", status["network"]["generation"], 1)


@needs()
def gateway_is_asked_for_at_large_again_once_the_guest_was_restarted(
        case: Case):
    """What answered the old guest may not be what the new one has."""
    bridge = Bridge(case, ["keepalive.mode=arp", "keepalive.interval=1s",
                           "keepalive.count=100",
                           f"keepalive.gateway={GATEWAY}"])
    connection = meet(bridge)
    for number in range(10):
        asked = next_probe(connection)
        replies = keepalive(bridge)["replies"]
        connection.send(arp_answer((ROUTER_MAC, GATEWAY), TO_GUEST))
        answered = time.monotonic()
        wait_for("the answer to be counted",
                 lambda: keepalive(bridge)["replies"] > replies)
        if asked[:6] != ROUTER_MAC:  # not known yet, or we were late
            continue
        bridge.guest.remove()
        wait_for("the guest to be forgotten",
                 lambda: bridge.status()["guest"]["peer"] == "")
        bridge.guest = bridge.new_guest(f"{number}.sock")
        bridge.guest.send(frame(number))
        wait_for("the next guest to be found",
                 lambda: bridge.status()["guest"]["peer"] != "")
        if time.monotonic() - answered < 0.9:
            break
        # The next probe may have gone before: once more, with less delay.
    else:
        expect(False, "expected one quiet second in ten")
    expect_equal("whom the next probe is for",
                 next_probe(connection)[:6].hex(), BROADCAST.hex())
