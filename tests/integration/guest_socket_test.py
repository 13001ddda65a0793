"""Guests that are slow, leave or restart. The suites unix_bind and
guest test how a socket is bound and a guest is found; these tests add the
threads that share the guest, and traffic."""

from __future__ import annotations

from pathlib import Path

from forwarder import Forwarder
from harness import Case, expect, expect_equal, needs, wait_for
from peers import (Bridge, Connection, FakeDaemon, FakeGuest, bound_guest,
                   guest_pair, number_of)


# --- a guest that does not read ------------------------------------------------

# --- a guest that restarts ----------------------------------------------------

def let_in(case: Case, name: str, forwarder: Path, first: int) -> FakeGuest:
    """A guest that stays at its path and tries again until it gets through."""
    guest = case.own(bound_guest(case.path(name)))

    def introduced() -> bool:
        try:
            guest.socket.connect(str(forwarder))
            guest.send(first)
        except (PermissionError, ConnectionRefusedError):
            return False  # still connected to the old one
        return True
    wait_for("the new guest to be let in", introduced)
    return guest


def expect_relearned(bridge: Bridge, connection: Connection, name: str) -> None:
    """The next guest, at this path, gets through, however often it tries."""
    bridge.guest = let_in(bridge.case, name, bridge.guest_path, 77)
    while number_of(connection.next()) != 77:
        pass
    connection.send(78)
    while number_of(bridge.guest.next()) != 78:
        pass
    bridge.until("guest.peer", str(bridge.case.path(name)))
    expect_equal("outages", bridge.value("network.outages"), 0)


@needs()
def restarted_guest_is_relearned_without_traffic(case: Case):
    """On the same path or another one, with or without the old file."""
    bridge = Bridge(case)
    connection = bridge.meet()
    for name in ("vm.sock", "vm.sock", "other.sock", "vm.sock"):
        bridge.guest.remove()
        expect_relearned(bridge, connection, name)
    bridge.guest.close()
    case.path("vm.sock").unlink()  # only as the next guest starts
    expect_relearned(bridge, connection, "vm.sock")
    case.path("new.sock").touch()
    bound_guest(case.path("newest.sock")).close()
    case.path("newest.sock").rename(bridge.guest.path)
    bridge.guest.close()
    expect_relearned(bridge, connection, "other.sock")


# --- fd:N ---------------------------------------------------------------------

@needs()
def end_of_a_descriptor_is_69(case: Case):
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    guest, far = guest_pair()
    case.own(guest)
    forwarder = Forwarder(case, daemon.endpoint, f"fd:{far.fileno()}",
                          pass_fds=[far.fileno()])
    far.close()
    connection = case.own(daemon.accept())
    guest.close()
    connection.send(1)
    expect_equal("exit status", forwarder.process.wait(), 69)
    forwarder.until_lines("error ", 1)
    forwarder.until_line("error guest: gone")
