"""passt as the daemon, unprivileged and in a namespace of its own."""

from __future__ import annotations

import sys

from daemons import Iperf3Server, Passt
from forwarder import Forwarder
from harness import Case, Process, above, expect, needs, wait_for
from vm import Guest, received_bytes


def expect_transfer(guest: Guest) -> None:
    """A new connection each way, from the guest to its gateway."""
    for direction in ("", "--reverse"):
        report = guest.run(f"iperf3 --json --client {Passt.GATEWAY}"
                           f" --bytes 4M {direction}", seconds=20)
        assert received_bytes(report) > 0, report


@needs("guest", "passt", "namespaces", "iperf3", limit=180)
def guest_makes_new_connections_after_passt_was_killed(case: Case):
    passt = case.own(Passt(case.folder))
    passt.start()
    case.own(Iperf3Server(case.folder, passt.namespace, "127.0.0.1"))
    forwarder = Forwarder(case, f"unix:{passt.socket}",
                          f"unixgram:{case.path('guest.sock')}",
                          ["keepalive.mode=arp", "keepalive.interval=500ms",
                           "keepalive.count=20"])
    guest = case.own(Guest(case.folder, Guest.on_path(case.folder), "dhcp"))
    wait_for("an address from passt's DHCP server",
             lambda: Passt.ADDRESS in guest.run("ip address show dev eth0"), 20)
    # The gateway was learned from DHCP, not configured. And passt still knows
    # the guest, although our probes were the last frames it received.
    forwarder.until("keepalive.replies", above(2), 30)
    forwarder.until("keepalive.mode", "arp")
    expect_transfer(guest)

    passt.kill()
    passt.start()
    expect_transfer(guest)

    passt.kill()
    forwarder.until("network.state", "down")
    passt.start()
    forwarder.until("network.state", "up")
    expect_transfer(guest)
    forwarder.until("network.outages", 2)
    forwarder.until("keepalive.deaths", 0)


# Answers each query for an IPv4 address.
RESOLVER = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", 53))
while True:
    query, client = sock.recvfrom(512)
    answer = bytes.fromhex("c00c0001000100000000") + bytes([0, 4, 198, 51, 100, 7])
    sock.sendto(query[:2] + bytes.fromhex("8180000100010000 0000")
                + query[12:] + answer, client)
"""


@needs("guest", "passt", "namespaces", limit=120)
def questions_sent_in_an_outage_are_answered_right_after_it(case: Case):
    """Each is sent once: the next attempt would be a minute later."""
    passt = case.own(Passt(case.folder))
    passt.start()
    case.own(Process(passt.namespace.enter(sys.executable, "-c", RESOLVER),
                     case.path("resolver.log")))
    forwarder = Forwarder(case, f"unix:{passt.socket}",
                          f"unixgram:{case.path('guest.sock')}",
                          ["network.hold=0"])
    guest = case.own(Guest(case.folder, Guest.on_path(case.folder), "dhcp"))
    wait_for("an address from passt's DHCP server",
             lambda: Passt.ADDRESS in guest.run("ip address show dev eth0"), 20)
    guest.run("mkdir -p /etc; printf 'nameserver %s\\noptions timeout:60"
              f" attempts:1\\n' {Passt.GATEWAY} >/etc/resolv.conf")

    passt.kill()
    forwarder.until("network.state", "down")
    jobs = {"198.51.100.7": guest.start("nslookup -type=a host.test"),
            Passt.ADDRESS: guest.start(
                "udhcpc -i eth0 -f -n -q -t 1 -T 60 -s /bin/true")}
    forwarder.until("up.kept", above(1))
    passt.start()
    for answer, job in jobs.items():
        found = job.wait(15)
        expect(answer in found, f"expected {answer} in: {found}")
    forwarder.until("up.kept", 0)
