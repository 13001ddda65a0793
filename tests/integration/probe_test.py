"""Probes and their answers, seen from the network's end. The suites probe, learn
and monitor test the single frames and what is learned from them."""

from __future__ import annotations

import socket
import time

from harness import Case, above, expect, expect_equal, needs, wait_for
from peers import BROADCAST, MAC, Bridge, Connection, frame, raw_frame
from probes import (ARP, NOBODY_YET, OTHER_MAC, OURS, PING, PONG, ROUTER_MAC,
                    answer_a_ping, arp_answer, arp_question,
                    between_forwarders, is_of_kind, is_probe_for, is_type, meet,
                    next_numbered, next_where, ping, pong, sequence_of,
                    what_comes)

GUEST, GATEWAY = "192.0.2.2", "192.0.2.1"
OFTEN = ["keepalive.interval=200ms", "keepalive.count=100"]
BY_ARP = ["keepalive.mode=arp", *OFTEN]
KNOWN = [*BY_ARP, f"keepalive.gateway={GATEWAY}"]
TO_GUEST = (MAC, "0.0.0.0")
LAST = frame(999)


def next_probe(connection: Connection, gateway: str = GATEWAY) -> bytes:
    return next_where(connection, lambda one: is_probe_for(gateway, one))


# --- ARP ----------------------------------------------------------------------

@needs()
def no_probe_is_sent_before_the_guest_is_known_and_then_one_at_once(
        case: Case):
    """Once the first probe was two seconds late, or never sent: fwd-link woke
    up before the guest's MAC could be read."""
    bridges = [Bridge(case.corner(str(number)), KNOWN) for number in range(12)]
    connections = [bridge.accept() for bridge in bridges]
    for connection in connections:
        connection.send(1)  # otherwise the proof of life would wake it
    expect_equal("what is sent in five intervals",
                 what_comes(connections[0], 1), [])
    for bridge in bridges:
        expect_equal("mode", bridge.value("keepalive.mode"), "passive")
        bridge.guest.send(1)
        bridge.until("keepalive.mode", "arp")
    for connection in connections:
        connection.socket.settimeout(1)
        next_probe(connection)


@needs()
def probe_is_an_rfc_5227_request_and_unicast_once_the_gateway_is_known(
        case: Case):
    bridge = Bridge(case, KNOWN)
    connection = meet(bridge)
    asked = next_where(connection, lambda one: is_type(ARP, one))
    expect_equal("first probe", asked.hex(" "), (
        BROADCAST + MAC + bytes.fromhex("0806 0001 0800 06 04 0001")
        + MAC + bytes(4) + bytes(6) + socket.inet_aton(GATEWAY)
        + bytes(18)).hex(" "))
    for mac in (ROUTER_MAC, OTHER_MAC):
        connection.send(arp_answer((mac, GATEWAY), TO_GUEST))
        next_where(connection, lambda one: is_probe_for(GATEWAY, one)
                   and one[:6] == mac)
        # Unanswered, because it moved: the next probe is a broadcast.
        next_where(connection, lambda one: is_probe_for(GATEWAY, one)
                   and one[:6] == BROADCAST)


@needs()
def answers_to_probes_are_consumed_and_those_for_the_guest_forwarded(
        case: Case):
    bridge = Bridge(case, KNOWN)
    connection = meet(bridge)
    ours = arp_answer((ROUTER_MAC, GATEWAY), TO_GUEST)
    guests = arp_answer((ROUTER_MAC, GATEWAY), (MAC, GUEST))
    expect_equal("armed", bridge.value("keepalive.armed"), False)
    for count in (1, 2):
        next_probe(connection)
        # The guest's own request crosses ours.
        question = arp_question((MAC, GUEST), GATEWAY)
        bridge.guest.send(question)
        next_where(connection, lambda one: one == question)
        connection.send(guests, ours)
        bridge.until("keepalive.replies", count)
        now = bridge.value("keepalive")
        expect(now["armed"] and now["rtt_us"] > 0 and now["mode"] == "arp"
               and now["probes"] >= count and now["idle_ms"] < 1000
               and not now["deaths"], f"expected an answered probe: {now}")
    # A request for another host is not answered.
    stranger = arp_question((OTHER_MAC, "192.0.2.7"), GUEST)
    connection.send(stranger, LAST)
    bridge.guest.expect(guests, guests, stranger, LAST)


@needs()
def gateway_is_probed_by_broadcast_again_after_a_guest_restart(case: Case):
    """What answered the old guest may not be what the new one has."""
    bridge = Bridge(case, ["keepalive.mode=arp", "keepalive.interval=1s",
                           "keepalive.count=100",
                           f"keepalive.gateway={GATEWAY}"])
    connection = meet(bridge)
    for number in range(10):
        asked = next_probe(connection)
        replies = bridge.value("keepalive.replies")
        connection.send(arp_answer((ROUTER_MAC, GATEWAY), TO_GUEST))
        answered = time.monotonic()
        bridge.until("keepalive.replies", above(replies))
        if asked[:6] != ROUTER_MAC:  # not known yet, or we were late
            continue
        bridge.guest.remove()
        bridge.until("guest.peer", "")
        bridge.guest = bridge.new_guest(f"{number}.sock")
        bridge.guest.send(number)
        bridge.until("guest.peer", str(case.path(f"{number}.sock")))
        if time.monotonic() - answered < 0.9:
            break
        # The next probe may have gone before: once more, with less delay.
    else:
        expect(False, "expected one quiet second in ten")
    expect_equal("whom the next probe is for",
                 next_probe(connection)[:6].hex(), BROADCAST.hex())


# --- between forwarders -------------------------------------------------------

@needs()
def ping_and_pong_are_as_documented_and_never_reach_the_guest(case: Case):
    bridge = Bridge(case, ["keepalive.mode=peer", *OFTEN])
    connection = bridge.accept()
    first = next_where(connection, lambda one: is_type(OURS, one))
    expect_equal("PING before a guest", first.hex(" "), between_forwarders(
        PING, sequence_of(first), NOBODY_YET).hex(" "))
    bridge.guest.send(1)
    expect_equal("the guest's frame", next_numbered(connection), 1)
    second = next_where(connection, lambda one: is_type(OURS, one))
    expect_equal("PING", second.hex(" "), between_forwarders(
        PING, sequence_of(second), MAC).hex(" "))
    connection.send(pong(sequence_of(second) + 1000), 2)
    bridge.guest.expect(2)
    expect_equal("replies", bridge.value("keepalive.replies"), 0)

    def answered() -> bool:
        """Before the next PING, so that the round trip is measured."""
        answer_a_ping(connection)
        return bridge.value("keepalive.rtt_us") > 0
    wait_for("an answered PING", answered)
    now = bridge.value("keepalive")
    expect(now["armed"] and now["replies"] > 0 and now["mode"] == "peer",
           f"expected an answered PING, found {now}")
    connection.send(ping(77))
    answer = next_where(connection, lambda one: is_of_kind(PONG, one))
    expect_equal("PONG", answer.hex(" "),
                 between_forwarders(PONG, 77, MAC).hex(" "))
    bridge.until("keepalive.answered", 1)
    # The EtherType is for experiments of any kind: other frames are forwarded.
    foreign = raw_frame(b"something else".ljust(46, b"\0"), OURS, OTHER_MAC)
    connection.send(ping(78), pong(3), foreign, LAST)
    bridge.guest.expect(foreign, LAST)
