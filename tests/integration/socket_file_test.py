"""The forwarder's own sockets: their files come back when a cleaner removes or
replaces them."""

from __future__ import annotations

import shutil
import signal
import socket
import stat
from pathlib import Path

from harness import Case, expect, expect_equal, needs, wait_for
from peers import Bridge, FakeGuest, bound_guest, frame
from roles_test import Listening, on_path

REMOVED = "socket file was removed"


def remove(path: Path) -> None:
    """And it is there again. The inode's number isn't given to another file:
    the socket lives."""
    inode = path.stat().st_ino
    path.unlink()
    wait_for(f"{path} to be bound again", lambda: path.is_socket()
             and path.stat().st_ino != inode)


def until_told(forwarder, times: int = 1, what: str = "; bound again path="
               ) -> None:
    """Not only bound: it listens, too."""
    wait_for(f"{times} warnings", lambda:
             forwarder.log_text().count(f"{REMOVED}{what}") == times)


def expect_nothing_dropped(bridge: Bridge) -> None:
    for direction in ("up", "down"):
        drops = bridge.value(f"{direction}.drops")
        expect(not any(drops.values()), f"expected no drops, found {drops}")


@needs()
def control_socket_that_is_removed_is_bound_again(case: Case):
    bridge = Bridge(case)
    for count in range(1, 4):
        bridge.control.unlink()
        until_told(bridge, count)
        bridge.status()
    bridge.reload(f"control.socket={case.path('second.sock')}")
    remove(bridge.control)
    until_told(bridge, 4)
    bridge.status()


@needs()
def socket_it_listens_on_is_bound_again_and_its_client_stays(case: Case):
    server = on_path(case)
    path = case.path("net.sock")
    client = server.call()
    server.exchange(client, 1)
    case.path("another").write_text("")
    case.path("another").rename(path)  # no socket: it is left alone
    until_told(server, what="; can't bind again yet")
    server.exchange(client, 2)
    path.unlink()
    until_told(server)
    server.exchange(client, 3)
    expect_equal("generation", server.value("network.generation"), 1)
    client = server.call()
    server.until("network.generation", 2)
    server.exchange(client, 4)
    server.stop()


@needs()
def socket_returns_when_its_removed_or_moved_folder_returns(case: Case):
    folder = case.path("run")
    folder.mkdir()
    server = Listening(case, f"listen-unix:{folder / 'net.sock'}")

    def is_removed() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    wait_for("the folder to be removed", is_removed)
    until_told(server, what="; can't bind again yet")
    # It is checked repeatedly, but logged once.
    server.reload()
    folder.mkdir()
    until_told(server)
    server.exchange(server.call(), 1)
    until_told(server, what="; can't bind again yet")
    # No watch reports that a folder was moved: a reload finds out.
    folder.rename(case.path("elsewhere"))
    folder.mkdir()
    server.signal(signal.SIGHUP)
    until_told(server, 2)
    client = server.call()
    server.until("network.generation", 2)
    server.exchange(client, 1)


# --- the guest's --------------------------------------------------------------

@needs()
def guest_stays_when_the_forwarders_socket_is_removed(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for number in range(1, 4):
        remove(bridge.guest_path)
        bridge.exchange(connection, number)
        until_told(bridge, number)
    expect_equal("mode", oct(stat.S_IMODE(bridge.guest_path.stat().st_mode)),
                 oct(0o600))
    expect_nothing_dropped(bridge)
    # A frame without a sender at the new socket does not end the guest.
    stranger = case.own(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    stranger.sendto(frame(99), str(bridge.guest_path))
    bridge.until_dropped(1, "up.drops.guest_restarted")
    bridge.exchange(connection, 4)
    bridge.stop()


@needs()
def guest_that_names_the_socket_with_each_frame_is_not_lost(case: Case):
    """As QEMU does: its frames arrive at the new socket."""
    bridge = Bridge(case)
    connection = bridge.accept()
    bridge.guest.remove()
    guest: FakeGuest = case.own(bound_guest(case.path("qemu.sock")))
    for number in range(1, 5):
        guest.socket.sendto(frame(number), str(bridge.guest_path))
        connection.expect(number)
        connection.send(number)
        guest.expect(number)
        remove(bridge.guest_path)
    expect_nothing_dropped(bridge)
