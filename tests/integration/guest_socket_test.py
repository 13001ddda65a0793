"""The guest's side: who the guest is, and what if it is slow, gone, another
one, or never was."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Callable

from forwarder import ask_status, command_line
from harness import (Case, Process, expect, expect_equal, needs, wait_for)
from peers import (Bridge, Child, Connection, FakeDaemon, FakeGuest, frame,
                   guest_on_path, guest_pair, lines_of, number_of, numbers,
                   run_as_nobody, run_forwarder, swallow)

UP, DOWN = "guest_to_network", "network_to_guest"
EX_UNAVAILABLE, EX_OSERR, EX_CONFIG = 69, 71, 78


def send_numbered(connection: Connection, first: int, count: int) -> None:
    connection.send(*(frame(number, 1514)
                      for number in range(first, first + count)))


def settled(bridge: Bridge, count: int) -> None:
    """Until `count` frames of the network have been passed on or dropped."""
    def seen() -> bool:
        counted = bridge.status()[DOWN]
        return counted["frames"] + sum(counted["drops"].values()) >= count
    wait_for(f"{count} frames to be dealt with", seen)


# --- a guest that does not read -----------------------------------------------

@needs()
def guest_that_stops_reading_holds_nobody_up_and_recovers(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    send_numbered(connection, 1, 5000)  # blocks, were it held up
    settled(bridge, 5001)
    counted = bridge.status()[DOWN]
    passed = counted["frames"] - 1
    expect_equal("frames dropped", counted["drops"]["guest_slow"],
                 5000 - passed)
    bridge.guest.send(frame(7))
    expect_equal("frame the other way", number_of(connection.next()), 7)
    expect_equal("what the guest finds waiting", numbers(bridge.guest.drain()),
                 list(range(1, passed + 1)))
    connection.send(frame(5001))
    expect_equal("next frame", number_of(bridge.guest.receive()), 5001)
    expect_equal("outages", bridge.status()["network"]["outages"], 0)


@needs()
def stall_is_waited_for_once_and_not_for_each_frame(case: Case):
    bridge = Bridge(case, ["guest.stall=1s"])
    connection = bridge.meet()
    started = time.monotonic()
    send_numbered(connection, 1, 3000)
    settled(bridge, 3001)
    took = time.monotonic() - started
    expect(took >= 1, f"expected a wait of 1 s, found {took:.2f} s")
    expect(took < 10, f"expected one wait of 1 s, found {took:.2f} s")


@needs()
def guest_that_is_slower_than_the_network_but_within_stall_loses_nothing(
        case: Case):
    bridge = Bridge(case, ["guest.stall=1s"])
    connection = bridge.meet()
    case.own(Child(send_them, connection, 2000))
    expect_equal("frames", numbers(bridge.guest.take(2000)),
                 list(range(1, 2001)))
    expect_equal("dropped", sum(bridge.status()[DOWN]["drops"].values()), 0)


def send_them(tell: Callable, connection: Connection, count: int) -> None:
    send_numbered(connection, 1, count)


@needs()
def queue_of_a_guest_that_is_connected_back_to_is_a_long_one(case: Case):
    """One-way connected it holds 11 datagrams, however small."""
    bridge = Bridge(case, ["guest.stall=0"])
    connection = bridge.meet()
    connection.send(*(frame(number) for number in range(1, 61)))
    settled(bridge, 61)
    expect_equal("frames waiting", numbers(bridge.guest.drain()),
                 list(range(1, 61)))


# --- a guest that is not there ------------------------------------------------

@needs()
def frames_for_a_guest_that_never_came_are_counted(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    send_numbered(connection, 1, 100)
    bridge.wait_for_drops(DOWN, "guest_absent", 100)
    bridge.guest.send(frame(1))
    connection.next()
    connection.send(frame(2))
    expect_equal("frame", number_of(bridge.guest.receive()), 2)


@needs()
def frames_for_a_guest_that_left_are_counted(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    bridge.guest.remove()
    send_numbered(connection, 1, 100)
    bridge.wait_for_drops(DOWN, "guest_absent", 100)
    expect_equal("peer", bridge.status()["guest"]["peer"], "")


@needs()
def nameless_guest_is_heard_and_told_of_once(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    nameless = case.own(FakeGuest(socket.socket(socket.AF_UNIX,
                                                socket.SOCK_DGRAM)))
    nameless.socket.connect(str(bridge.guest_path))
    nameless.send(*(frame(number) for number in range(20)))
    expect_equal("frames", numbers(connection.take(20)), list(range(20)))
    expect_equal("warnings", len(bridge.log_lines("warn guest:")), 1)


@needs()
def guest_with_an_abstract_address_is_answered(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    hidden = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    hidden.bind(f"\0{case.folder.name}")
    hidden.connect(str(bridge.guest_path))
    guest = case.own(FakeGuest(hidden))
    guest.send(frame(1))
    connection.next()
    connection.send(frame(2))
    expect_equal("frame", number_of(guest.receive()), 2)


# --- a guest that restarts ----------------------------------------------------

def newcomer(case: Case, name: str) -> FakeGuest:
    """Bound, but it hasn't found the forwarder yet."""
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind(str(case.path(name)))
    return case.own(FakeGuest(datagrams, case.path(name)))


def let_in(case: Case, name: str, forwarder: Path, first: int) -> FakeGuest:
    """A guest that stays at its path and tries again until it gets through."""
    guest = newcomer(case, name)

    def introduced() -> bool:
        try:
            guest.socket.connect(str(forwarder))
            guest.send(frame(first))
        except (PermissionError, ConnectionRefusedError):
            return False  # still connected to the old one
        return True
    wait_for("the new guest to be let in", introduced)
    return guest


def expect_relearned(case: Case, bridge: Bridge, connection: Connection,
                     name: str) -> FakeGuest:
    """A guest at this path gets through, however often it has to try."""
    guest = let_in(case, name, bridge.guest_path, 77)
    while number_of(connection.next()) != 77:
        pass
    connection.send(frame(78))
    while number_of(guest.receive()) != 78:
        pass
    expect_equal("peer", bridge.status()["guest"]["peer"],
                 str(case.path(name)))
    expect_equal("outages", bridge.status()["network"]["outages"], 0)
    return guest


@needs()
def guest_restarted_on_its_path_is_relearned_without_traffic(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for _ in range(5):
        bridge.guest.remove()
        bridge.guest = expect_relearned(case, bridge, connection, "vm.sock")


@needs("namespaces")
def guest_restarted_where_the_system_gives_no_watch_is_relearned(case: Case):
    """As the 65th forwarder of a user would be, with 128 instances for him."""
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    control, path = case.path("control.sock"), case.path("guest.sock")
    log = case.path("forwarder.log")
    case.own(Process(
        ["unshare", "--user", "--map-root-user", "sh", "-c",
         'echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"', "sh",
         *command_line(control, daemon.endpoint, f"unixgram:{path}")], log))
    connection = case.own(daemon.accept())
    for number in range(3):
        guest = let_in(case, "vm.sock", path, number)
        expect_equal("frame", number_of(connection.next()), number)
        connection.send(frame(number))
        expect_equal("frame in", number_of(guest.receive()), number)
        guest.remove()
    for what in ("guest", "link"):
        warnings = lines_of(log.read_text(), f"warn {what}: can't watch")
        expect_equal("warnings", len(warnings), 1)
        expect("max_user_instances" in warnings[0],
               f"expected what to do: {warnings[0]}")


@needs()
def guest_restarted_on_another_path_is_relearned_without_traffic(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for number in range(5):
        bridge.guest.remove()
        bridge.guest = expect_relearned(case, bridge, connection,
                                        f"vm{number}.sock")


@needs()
def guest_that_comes_and_goes_without_end_does_not_fill_the_log(case: Case):
    bridge = Bridge(case)
    case.own(Child(swallow, bridge.meet().socket))

    def come_and_go() -> None:
        bridge.guest.remove()
        try:
            bridge.guest = bridge.new_guest("vm.sock")
            bridge.guest.send(frame(1))
        except (PermissionError, ConnectionRefusedError):
            pass

    started = time.monotonic()
    while time.monotonic() - started < 2:
        come_and_go()
    for line, burst in (("info guest: found", 20), ("warn guest: gone", 20),
                        ("warn guest: restarted", 20),
                        ("warn guest: can't answer", 5)):
        lines = len(bridge.log_lines(line))
        expect(lines <= burst + 10, f"expected some lines, found {lines}:"
                                    f" {line}")


@needs()
def guest_restarted_under_traffic_of_the_network_is_relearned(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for name in ("vm.sock", "other.sock", "vm.sock"):
        trickle = case.own(Child(trickle_frames, connection))
        wait_for("traffic", lambda: bridge.guest.drain())
        bridge.guest.remove()
        wait_for("frames for nobody",
                 lambda: bridge.drops(DOWN, "guest_absent"))
        trickle.kill()
        bridge.guest = expect_relearned(case, bridge, connection, name)


def trickle_frames(tell: Callable, connection: Connection) -> None:
    while True:
        connection.send(frame(5))
        time.sleep(0.001)


def live_as_guest(tell: Callable, path: Path, forwarder_path: Path) -> None:
    guest = guest_on_path(path, forwarder_path)
    guest.send(frame(70))
    tell(b"there")
    signal.pause()


def killed_guest(case: Case, bridge: Bridge, connection: Connection,
                 name: str) -> None:
    """One that was known, and leaves its socket's file behind."""
    process = case.own(Child(live_as_guest, case.path(name),
                             bridge.guest_path))
    expect_equal("frame", number_of(connection.next()), 70)
    wait_for("the guest to be known", lambda: bridge.status()
             ["guest"]["peer"] == str(case.path(name)))
    process.kill()


@needs()
def killed_guest_that_binds_its_path_again_is_relearned(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    killed_guest(case, bridge, connection, "killed.sock")
    case.path("killed.sock").unlink()
    expect_relearned(case, bridge, connection, "killed.sock")


@needs()
def guest_on_another_path_follows_a_killed_one_once_traffic_is_refused(
        case: Case):
    """The dead one's file is still there, so only a refused send tells."""
    bridge = Bridge(case)
    connection = bridge.accept()
    killed_guest(case, bridge, connection, "killed.sock")
    connection.send(frame(1))
    expect_relearned(case, bridge, connection, "next.sock")


@needs()
def live_guest_whose_socket_file_is_removed_is_kept(case: Case):
    """Until a new one answers at its path, or it is closed."""
    bridge = Bridge(case)
    connection = bridge.meet()
    bridge.guest.path.unlink()
    for number in range(2, 30):
        bridge.guest.send(frame(number))
        expect_equal("frame", number_of(connection.next()), number)
        connection.send(frame(number))
        expect_equal("frame in", number_of(bridge.guest.receive()), number)
        time.sleep(0.05)
    expect_equal("warnings", bridge.log_lines("warn guest:"), [])
    guest = expect_relearned(case, bridge, connection, "vm.sock")
    guest.path.unlink()
    guest.close()
    expect_relearned(case, bridge, connection, "other.sock")


@needs()
def frames_of_a_guest_that_left_are_counted(case: Case):
    """The forwarder holds one batch in an outage, the others wait."""
    bridge = Bridge(case, ["network.hold=1m"])
    connection = bridge.meet()
    bridge.daemon.stop()
    connection.close()
    bridge.wait_until("down")
    sent = 0
    while sent < 30:
        bridge.guest.send(frame(sent))
        sent += 1
    bridge.guest.remove()
    wait_for("the guest to be forgotten",
             lambda: bridge.status()["guest"]["peer"] == "")
    bridge.daemon.start()
    connection = bridge.accept()
    wait_for("all frames to be accounted for",
             lambda: bridge.status()[UP]["frames"] - 1
             + bridge.drops(UP, "guest_restarted") == sent)


@needs()
def guest_whose_socket_file_is_replaced_gives_way_to_the_new_one(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    guest = newcomer(case, "new.sock")
    case.path("new.sock").rename(bridge.guest.path)
    wait_for("a frame for the new one",
             lambda: connection.send(frame(5)) or guest.drain())


@needs()
def guest_whose_first_frame_races_with_the_old_ones_end_is_answered(
        case: Case):
    """Its one frame may come in the moment in which the old one is found
    dead: it must make it the guest all the same."""
    bridge = Bridge(case, ["log.level=error"])
    connection = bridge.meet()
    guest = bridge.guest
    for number in range(30):
        guest.close()
        connection.send(frame(1))
        guest = expect_relearned(case, bridge, connection, f"{number}.sock")


@needs()
def guest_restarts_in_an_outage_too(case: Case):
    bridge = Bridge(case, ["network.hold=1m"])
    connection = bridge.meet()
    bridge.daemon.stop()
    connection.close()
    bridge.wait_until("down")
    bridge.guest.remove()
    wait_for("the guest to be forgotten",
             lambda: bridge.status()["guest"]["peer"] == "")
    guest = bridge.new_guest("next.sock")
    guest.send(frame(1))
    bridge.daemon.start()
    connection = bridge.accept()
    expect_equal("frame", number_of(connection.next()), 1)
    connection.send(frame(2))
    expect_equal("frame", number_of(guest.receive()), 2)


@needs()
def second_guest_does_not_get_in_between(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    try:
        intruder = bridge.new_guest("intruder.sock")
        intruder.send(frame(66))
    except PermissionError:
        pass
    else:
        expect(False, "expected the kernel to turn a second guest away")
    connection.send(frame(1))
    expect_equal("frame", number_of(bridge.guest.receive()), 1)


# --- fd:N ---------------------------------------------------------------------

class Inherited:
    """A forwarder whose guest is a descriptor."""

    def __init__(self, case: Case) -> None:
        self.daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
        self.guest, far = guest_pair()
        case.own(self.guest)
        self.log = case.path("forwarder.log")
        self.process = case.own(Process(
            command_line(case.path("control.sock"), self.daemon.endpoint,
                         f"fd:{far.fileno()}"), self.log,
            pass_fds=[far.fileno()]))
        far.close()
        self.connection = case.own(self.daemon.accept())


@needs()
def inherited_descriptor_is_a_guest_in_both_directions(case: Case):
    bridge = Inherited(case)
    bridge.guest.send(frame(1))
    expect_equal("frame out", number_of(bridge.connection.next()), 1)
    bridge.connection.send(frame(2))
    expect_equal("frame in", number_of(bridge.guest.receive()), 2)
    expect_equal("exit status", bridge.process.terminate(1), 0)


@needs()
def guest_gone_behind_a_descriptor_ends_the_process_with_69(case: Case):
    bridge = Inherited(case)
    bridge.guest.send(frame(1))
    bridge.connection.next()
    bridge.guest.close()
    bridge.connection.send(frame(2))
    expect_equal("exit status", bridge.process.wait(), EX_UNAVAILABLE)
    errors = lines_of(bridge.log.read_text(), "error ")
    expect_equal("errors", len(errors), 1)
    expect("guest: gone" in errors[0], f"expected the reason: {errors[0]}")


@needs()
def inherited_descriptor_that_does_not_block_is_waited_for_all_the_same(
        case: Case):
    guest, far = guest_pair()
    case.own(guest)
    far.setblocking(False)
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    process = case.own(Process(
        command_line(case.path("control.sock"), daemon.endpoint,
                     f"fd:{far.fileno()}"), case.path("forwarder.log"),
        pass_fds=[far.fileno()]))
    far.close()
    connection = case.own(daemon.accept())
    guest.send(frame(1))
    expect_equal("frame", number_of(connection.next()), 1)
    expect_equal("exit status", process.terminate(1), 0)


def expect_refused(arguments: list, words: list[str], status: int = EX_OSERR,
                   **options) -> str:
    return expect_refusal(run_forwarder(*arguments, **options), words, status)


def expect_refusal(done: subprocess.CompletedProcess, words: list[str],
                   status: int = EX_OSERR) -> str:
    """Ended with one clear line that has these words."""
    expect_equal(f"exit status of {done.args}", done.returncode, status)
    lines = done.stderr.splitlines()
    expect_equal(f"lines of {done.stderr!r}", len(lines), 1)
    for word in words:
        expect(word in lines[0], f"expected {word!r} in: {lines[0]}")
    return lines[0]


@needs()
def wrong_descriptor_is_refused_with_one_line(case: Case):
    nobody = f"unix:{case.path('nobody.sock')}"
    with open(case.path("file"), "w") as file, \
            socket.socket(socket.AF_UNIX) as stream, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lonely, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound:
        for given, word in ((file, "not a socket"), (stream, "datagram"),
                            (lonely, "connected to nobody"),
                            (unbound, "connected to nobody")):
            fd = given.fileno()
            expect_refused(["-g", f"fd:{fd}", "-n", nobody],
                           [f"fd:{fd}", word], pass_fds=[fd])
    expect_refused(["-g", "fd:99", "-n", nobody], ["fd:99", "no such"])


# --- unixgram:PATH ------------------------------------------------------------

def start(case: Case, guest: Path, *options: str, **process) -> Process:
    """A forwarder bound to the path, its network being nobody. It answers
    there while it still starts, but tells its status only afterwards."""
    started = case.own(Process(
        command_line(case.path("control.sock"),
                     f"unix:{case.path('nobody.sock')}", f"unixgram:{guest}",
                     options), case.path("forwarder.log"), **process))
    wait_for("the guest socket", lambda: guest.is_socket() and answers(guest))
    wait_for("its status", lambda: ask_status(case.path("control.sock")))
    return started


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asker:
        return asker.connect_ex(str(path)) == 0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs()
def socket_has_the_mode_that_was_asked_for(case: Case):
    for options, mode in (((), 0o600), (("guest.mode=0660",), 0o660),
                          (("guest.mode=0777",), 0o777)):
        path = case.path("guest.sock")
        process = start(case, path, *options, umask=0o077)
        expect_equal("mode", oct(mode_of(path)), oct(mode))
        expect_equal("exit status", process.terminate(1), 0)


@needs()
def stale_socket_of_a_dead_forwarder_is_replaced(case: Case):
    path = case.path("guest.sock")
    start(case, path).kill()
    expect(path.is_socket(), "expected a killed forwarder to leave its socket")
    process = start(case, path)
    expect_equal("exit status", process.terminate(1), 0)
    expect(not path.exists(), "expected the socket to be removed")


@needs()
def live_socket_is_never_taken(case: Case):
    """Neither a free forwarder's nor that of one that has its guest."""
    bridge = Bridge(case)
    nobody = f"unix:{case.path('nobody.sock')}"
    arguments = ["-g", f"unixgram:{bridge.guest_path}", "-n", nobody]
    expect_refused(arguments, [str(bridge.guest_path), "in use"])
    connection = bridge.meet()
    expect_refused(arguments, [str(bridge.guest_path), "in use"])
    bridge.guest.send(frame(1))
    expect_equal("frame", number_of(connection.next()), 1)
    stranger = newcomer(case, "stranger.sock")
    expect_refused(["-g", f"unixgram:{stranger.path}", "-n", nobody],
                   ["in use"])
    listener = case.own(FakeDaemon(case.path("stream.sock"))).start()
    expect_refused(["-g", f"unixgram:{listener.path}", "-n", nobody],
                   [str(listener.path)])
    expect(listener.path.is_socket(), "expected another's socket untouched")


@needs()
def anything_but_a_socket_at_the_path_is_never_touched(case: Case):
    nobody = f"unix:{case.path('nobody.sock')}"
    file, folder = case.path("file"), case.path("folder")
    link = case.path("link")
    file.write_text("precious")
    folder.mkdir()
    link.symlink_to(file)
    for path in (file, folder, link):
        expect_refused(["-g", f"unixgram:{path}", "-n", nobody], [str(path)])
    expect_equal("the file", file.read_text(), "precious")
    expect(folder.is_dir() and link.is_symlink(), "expected nothing removed")


@needs()
def socket_that_another_has_replaced_meanwhile_is_not_removed(case: Case):
    path = case.path("guest.sock")
    process = start(case, path)
    other = newcomer(case, "other.sock").path
    inode = other.stat().st_ino
    other.rename(path)
    expect_equal("exit status", process.terminate(1), 0)
    expect_equal("the other's socket", path.stat().st_ino, inode)


@needs()
def path_too_long_for_a_socket_is_told_and_the_longest_one_works(case: Case):
    room = 107 - len(str(case.folder)) - 1
    fits, too_long = case.path("g" * room), case.path("g" * (room + 1))
    process = start(case, fits)
    expect_equal("exit status", process.terminate(1), 0)
    expect_refused(["-g", f"unixgram:{too_long}", "-n", "unix:/x"],
                   ["longer than a socket allows"], EX_CONFIG)


@needs()
def missing_folder_is_told(case: Case):
    path = case.path("missing/guest.sock")
    expect_refused(["-g", f"unixgram:{path}", "-n", "unix:/x"],
                   [str(path), "its folder"])


@needs("root")
def missing_permission_is_told(case: Case):
    path = case.path("guest.sock")
    expect_refusal(run_as_nobody(case, "-g", f"unixgram:{path}",
                                 "-n", "unix:/x"),
                   [str(path), "Permission denied"])
    expect(not path.exists(), "expected nothing left behind")
