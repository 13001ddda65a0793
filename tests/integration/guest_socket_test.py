"""Guests that are slow, leave or restart. The suites unix_bind and
guest test how a socket is bound and a guest is found; these tests add the
threads that share the guest, and traffic."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable

from forwarder import Forwarder
from harness import (Case, above, expect, expect_equal, needs, wait_for)
from peers import (Bridge, Child, Connection, FakeDaemon, FakeGuest,
                   bound_guest, frame, guest_pair, number_of,
                   numbers, swallow)


# --- a guest that does not read ------------------------------------------------

@needs()
def guest_that_stops_reading_does_not_delay_others_and_recovers(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    # This would block if the forwarder did.
    connection.send(*(frame(number, 1514) for number in range(1, 5001)))
    bridge.until("down", lambda counted: counted["frames"]
                 + sum(counted["drops"].values()) == 5001)
    passed = bridge.value("down.frames") - 1
    expect_equal("frames dropped", bridge.value("down.drops.guest_slow"),
                 5000 - passed)
    bridge.guest.send(7)
    connection.expect(7)
    expect_equal("what the guest finds waiting", numbers(bridge.guest.drain()),
                 list(range(1, passed + 1)))
    connection.send(5001)
    bridge.guest.expect(5001)
    expect_equal("outages", bridge.value("network.outages"), 0)


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


@needs()
def guest_restarted_under_traffic_of_the_network_is_relearned(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for name in ("vm.sock", "other.sock", "vm.sock"):
        trickle = case.own(Child(trickle_frames, connection))
        wait_for("traffic", bridge.guest.drain)
        absent = bridge.value("down.drops.guest_absent")
        bridge.guest.remove()
        bridge.until("down.drops.guest_absent", above(absent))
        trickle.kill()
        expect_relearned(bridge, connection, name)


def trickle_frames(tell: Callable, connection: Connection) -> None:
    while True:
        connection.send(5)
        time.sleep(0.001)


@needs()
def guest_whose_first_frame_races_with_the_old_ones_end_is_answered(
        case: Case):
    """Its first frame may arrive just when the old guest is found dead. Its
    sender still becomes the guest."""
    bridge = Bridge(case, ["log.level=error"])
    connection = bridge.meet()
    for number in range(30):
        bridge.guest.close()
        connection.send(1)
        expect_relearned(bridge, connection, f"{number}.sock")


@needs("namespaces")
def guest_restarted_without_a_file_watch_is_relearned(case: Case):
    """A user has 128 inotify instances: too few for 65 forwarders."""
    bridge = Bridge(case, before=[
        "unshare", "--user", "--map-root-user", "sh", "-c",
        'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh"])
    connection = bridge.accept()
    bridge.guest.remove()
    for number in range(3):
        guest = let_in(case, "vm.sock", bridge.guest_path, number)
        connection.expect(number)
        connection.send(number)
        guest.expect(number)
        guest.remove()
    for what in ("guest", "link"):
        bridge.until_line(f"warn {what}: can't watch", "max_user_instances")
        bridge.until_lines(f"warn {what}: can't watch", 1)


@needs()
def guest_that_comes_and_goes_without_end_does_not_fill_the_log(case: Case):
    bridge = Bridge(case)
    case.own(Child(swallow, bridge.meet().socket))
    started = time.monotonic()
    while time.monotonic() - started < 2:
        bridge.guest.remove()
        try:
            bridge.guest = bridge.new_guest("vm.sock")
            bridge.guest.send(1)
        except (PermissionError, ConnectionRefusedError):
            pass
    for line, burst in (("info guest: found", 20), ("warn guest: gone", 20),
                        ("warn guest: restarted", 20),
                        ("warn guest: can't connect to", 5)):
        lines = len(bridge.lines(line))
        expect(lines <= burst + 10, f"expected some lines, found {lines}:"
                                    f" {line}")


@needs()
def guest_restarts_in_an_outage_and_what_the_old_one_left_is_counted(
        case: Case):
    """In an outage the forwarder holds one batch; the rest stays queued."""
    bridge = Bridge(case, ["network.hold=1m"])
    bridge.lose(bridge.meet())
    bridge.guest.send(*range(30))
    bridge.guest.remove()
    bridge.until("guest.peer", "")
    guest = bridge.new_guest("next.sock")
    guest.send(77)
    connection = bridge.come_back()
    while number_of(connection.next()) != 77:
        pass
    bridge.until("up", lambda counted: counted["frames"] - 2
                 + counted["drops"]["guest_restarted"] == 30)
    connection.send(2)
    guest.expect(2)


# --- fd:N ---------------------------------------------------------------------

@needs()
def descriptor_is_a_guest_in_both_directions_and_its_end_is_69(case: Case):
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    guest, far = guest_pair()
    case.own(guest)
    forwarder = Forwarder(case, daemon.endpoint, f"fd:{far.fileno()}",
                          pass_fds=[far.fileno()])
    far.close()
    connection = case.own(daemon.accept())
    guest.send(1)
    connection.expect(1)
    connection.send(2)
    guest.expect(2)
    guest.close()
    connection.send(3)
    expect_equal("exit status", forwarder.process.wait(), 69)
    forwarder.until_lines("error ", 1)
    forwarder.until_line("error guest: gone")
