"""The forwarder's own sockets: their files are removed or replaced by somebody
who cleans up, and come back."""

from __future__ import annotations

import shutil
import signal
import socket
import stat
from pathlib import Path

from errors_test import Configured
from harness import Case, expect, expect_equal, needs, wait_for
from peers import Bridge, Connection, FakeGuest, frame, number_of
from roles_test import Listening, call, expect_both_ways, on_path

REMOVED = "its socket was removed"


def wait_until_back(path: Path, inode: int) -> None:
    wait_for(f"{path} to be bound again", lambda: path.is_socket()
             and path.stat().st_ino != inode)


def remove(path: Path) -> int:
    """The inode's number isn't given to another file: the socket lives."""
    inode = path.stat().st_ino
    path.unlink()
    return inode


def count_lines(forwarder, start: str) -> int:
    return sum(start in line for line in forwarder.log_text().splitlines())


def wait_until_told(forwarder, times: int = 1) -> None:
    """Not only bound: it listens, too."""
    wait_for("a warning", lambda: count_lines(
        forwarder, f"{REMOVED}; bound again path=") == times)


@needs()
def control_socket_that_is_removed_is_bound_again(case: Case):
    forwarder = Bridge(case).forwarder
    for count in range(1, 4):
        forwarder.control.unlink()
        wait_until_told(forwarder, count)
        forwarder.status()


@needs()
def socket_it_listens_on_is_bound_again_and_its_client_stays(case: Case):
    server = on_path(case)
    path = case.path("net.sock")
    client = server.call()
    expect_both_ways(server.guest, client, 1)
    case.path("another").write_text("")
    case.path("another").rename(path)  # no socket: it is left alone
    wait_for("a warning", lambda: count_lines(
        server.forwarder, f"warn link: {REMOVED}, and can't be bound again"))
    expect_both_ways(server.guest, client, 2)
    path.unlink()
    wait_until_told(server.forwarder)
    expect_both_ways(server.guest, client, 3)
    expect_equal("generation",
                 server.forwarder.status()["network"]["generation"], 1)
    client = server.call()
    wait_for("the new client to be served", lambda: server.forwarder.status()
             ["network"]["generation"] == 2)
    expect_both_ways(server.guest, client, 4)
    expect_equal("exit status", server.forwarder.stop(5), 0)
    expect(not path.exists(), "expected the new socket to be removed")


@needs()
def socket_whose_folder_is_removed_comes_back_with_it(case: Case):
    folder = case.path("run")
    folder.mkdir()
    server = Listening(case, f"listen-unix:{folder / 'net.sock'}")

    def is_removed() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    wait_for("the folder to be removed", is_removed)
    warning = f"warn link: {REMOVED}, and can't be bound again"
    wait_for("a warning", lambda: count_lines(server.forwarder, warning))
    # Looked at again and again, and not said again.
    server.forwarder.process.signal(signal.SIGHUP)
    wait_for("a reload", lambda: server.log_lines("info config: read again"))
    folder.mkdir()
    wait_until_told(server.forwarder)
    expect_both_ways(server.guest, call(server.endpoint), 1)
    expect_equal("warnings", count_lines(server.forwarder, warning), 1)


# --- the guest's --------------------------------------------------------------

def expect_frames(guest: FakeGuest, connection: Connection,
                  number: int) -> None:
    guest.send(frame(number))
    expect_equal("frame out", number_of(connection.next()), number)
    connection.send(frame(number))
    expect_equal("frame in", number_of(guest.receive()), number)


def expect_nothing_dropped(bridge: Bridge) -> None:
    for direction in ("guest_to_network", "network_to_guest"):
        drops = bridge.status()[direction]["drops"]
        expect(not any(drops.values()), f"expected no drops, found {drops}")


@needs()
def guest_stays_when_the_forwarders_socket_is_removed(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for number in range(1, 4):
        wait_until_back(bridge.guest_path, remove(bridge.guest_path))
        expect_frames(bridge.guest, connection, number)
        wait_until_told(bridge.forwarder, number)
    expect_equal("mode", oct(stat.S_IMODE(bridge.guest_path.stat().st_mode)),
                 oct(0o600))
    expect_nothing_dropped(bridge)
    expect_equal("exit status", bridge.forwarder.stop(5), 0)
    expect(not bridge.guest_path.exists(), "expected the socket to be removed")


@needs()
def guest_that_comes_after_the_socket_was_removed_is_let_in(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    bridge.guest.remove()
    wait_until_back(bridge.guest_path, remove(bridge.guest_path))
    guest = bridge.new_guest("vm.sock")  # there was none before
    expect_frames(guest, connection, 1)
    for number, name in enumerate(("vm.sock", "vm.sock", "other.sock"), 2):
        wait_until_back(bridge.guest_path, remove(bridge.guest_path))
        if name == "vm.sock":
            guest.remove()
        else:
            guest.close()  # killed: nothing tells of it
        guest = bridge.new_guest(name)
        expect_frames(guest, connection, number)
    expect_nothing_dropped(bridge)


@needs()
def guest_that_names_the_socket_with_each_frame_is_not_lost(case: Case):
    """As QEMU does: its frames arrive at the new socket."""
    bridge = Bridge(case)
    connection = bridge.accept()
    bridge.guest.remove()
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    guest = case.own(FakeGuest(datagrams, case.path("qemu.sock")))
    datagrams.bind(str(guest.path))
    for number in range(1, 5):
        datagrams.sendto(frame(number), str(bridge.guest_path))
        expect_equal("frame out", number_of(connection.next()), number)
        connection.send(frame(number))
        expect_equal("frame in", number_of(guest.receive()), number)
        wait_until_back(bridge.guest_path, remove(bridge.guest_path))
    expect_nothing_dropped(bridge)


# --- reloads ------------------------------------------------------------------

@needs()
def control_socket_of_a_reload_is_bound_again_too(case: Case):
    forwarder = Configured(case)
    forwarder.reload("control", "socket", "")
    forwarder.control = case.path("second.sock")
    forwarder.reload("control", "socket", str(forwarder.control))
    wait_until_back(forwarder.control, remove(forwarder.control))
    wait_for("an answer", forwarder.status)


@needs()
def socket_whose_folder_was_moved_is_bound_again_by_a_reload(case: Case):
    """No watch tells of that."""
    folder = case.path("run")
    folder.mkdir()
    server = Listening(case, f"listen-unix:{folder / 'net.sock'}")
    folder.rename(case.path("elsewhere"))
    folder.mkdir()
    server.forwarder.process.signal(signal.SIGHUP)
    wait_until_told(server.forwarder)
    expect_both_ways(server.guest, call(server.endpoint), 1)


@needs()
def nameless_frame_at_the_new_socket_cuts_nobody_off(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    wait_until_back(bridge.guest_path, remove(bridge.guest_path))
    wait_until_told(bridge.forwarder)
    stranger = case.own(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    stranger.sendto(frame(99), str(bridge.guest_path))
    bridge.wait_for_drops("guest_to_network", "guest_restarted", 1)
    expect_frames(bridge.guest, connection, 1)
