"""Probes, seen from the network's end. The suites probe, learn and monitor test
the single frames and what is learned from them."""

from __future__ import annotations

import socket

from harness import Case, expect_equal, needs
from peers import MAC, Bridge
from probes import is_probe_for, next_where, what_comes

GATEWAY = "192.0.2.1"
PROBING = ["keepalive.mode=arp", f"keepalive.gateway={GATEWAY}",
           "keepalive.interval=200ms", "keepalive.count=100"]


@needs()
def no_probe_is_sent_before_the_guest_is_known_and_then_one_at_once(
        case: Case):
    """Once the first probe was two seconds late, or never sent: fwd-link woke
    up before the guest's MAC could be read."""
    bridges = [Bridge(case.corner(str(number)), PROBING)
               for number in range(12)]
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
        next_where(connection, lambda one: is_probe_for(GATEWAY, one))
