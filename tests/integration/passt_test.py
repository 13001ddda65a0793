"""passt as the daemon, unprivileged and in a namespace of its own."""

from __future__ import annotations

from daemons import Iperf3Server, Passt
from forwarder import Forwarder
from harness import Case, above, needs, wait_for
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
