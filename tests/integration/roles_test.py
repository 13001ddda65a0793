"""The other role: the forwarder listens, so that two of them make one link, on
one host, between two, or through somebody else's tunnel."""

from __future__ import annotations

import collections
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import time
from pathlib import Path
from typing import Callable, Optional, Sequence

from errors_test import Configured
from forwarder import Forwarder
from harness import (NEEDS, Case, Failure, Process, expect, expect_equal,
                     lacks_program, needs, wait_for, wait_until_equal)
from peers import (NOBODY, Child, Connection, FakeDaemon, FakeGuest,
                   descriptors, frame, framed, guest_on_path, header,
                   is_announcement, lines_of, number_of, numbers,
                   run_forwarder)
from probes import Corner, fall_silent

LOOPBACK = "127.0.0.1"
LOST = "warn link: lost"
REFUSED = "warn link: client refused"
REPLACED = "another client took its place"
# The system's, or one that is unpacked for this test and never installed.
SYSTEM_SSHD = Path("/usr/sbin/sshd")
OWN_SSH = Path(__file__).resolve().parents[2] / "build" / "ssh"


def lacks_ssh() -> Optional[str]:
    if not os.access(SYSTEM_SSHD, os.X_OK) and subprocess.run(
            [Path(__file__).resolve().parents[1] / "ssh" / "build"]
            ).returncode != 0:
        return f"{SYSTEM_SSHD} (package openssh-server)"
    return lacks_program("ssh", "openssh-client")()


def sshd_for(case: Case) -> tuple[Path, dict[str, str]]:
    """The program and its environment, where any user can read it."""
    if os.access(SYSTEM_SSHD, os.X_OK):
        return SYSTEM_SSHD, dict(os.environ)
    copy = shutil.copytree(OWN_SSH, case.path("sshd"), symlinks=True)
    libraries = {str(path.parent) for path in copy.rglob("*.so*")}
    return copy / "usr/sbin/sshd", {
        **os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}


NEEDS["ssh"] = lacks_ssh


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as taken:
        return taken.getsockname()[1]


class Listening:
    """A forwarder that listens, and its guest."""

    def __init__(self, case: Case, endpoint: str,
                 options: Sequence[str] = ()) -> None:
        self.case = case
        self.endpoint = endpoint
        self.forwarder = case.own(Forwarder(
            case.folder, endpoint, f"unixgram:{case.path('guest.sock')}",
            ["network.hold=forever", *options]))
        self.guest: FakeGuest = case.own(guest_on_path(
            case.path("vm.sock"), case.path("guest.sock")))

    def call(self, source: str = LOOPBACK) -> Connection:
        return self.case.own(call(self.endpoint, source))

    def log_lines(self, start: str) -> list[str]:
        return lines_of(self.forwarder.log_text(), start)


def call(endpoint: str, source: str = LOOPBACK) -> Connection:
    kind, _, where = endpoint.partition(":")
    if kind == "listen-unix":
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(where)
    else:
        host, _, port = where.rpartition(":")
        client = socket.create_connection((host, int(port)), 10, (source, 0))
    return Connection(client)


def on_path(case: Case, options: Sequence[str] = ()) -> Listening:
    return Listening(case, f"listen-unix:{case.path('net.sock')}", options)


def on_port(case: Case, options: Sequence[str] = ()) -> Listening:
    return Listening(case, f"listen-tcp:{LOOPBACK}:{free_port()}", options)


def expect_both_ways(guest: FakeGuest, client: Connection, number: int) -> None:
    guest.send(frame(number))
    expect_equal("frame to the client", number_of(client.next()), number)
    client.send(frame(number))
    expect_equal("frame to the guest", number_of(guest.receive()), number)


# --- a path -------------------------------------------------------------------

@needs()
def path_it_listens_on_is_the_owners_alone_and_gone_afterwards(case: Case):
    server = on_path(case)
    path = case.path("net.sock")
    expect_equal("mode", oct(stat.S_IMODE(path.stat().st_mode)), oct(0o600))
    expect_equal("state", server.forwarder.status()["network"]["state"], "down")
    expect_both_ways(server.guest, server.call(), 1)
    expect_equal("exit status", server.forwarder.stop(5), 0)
    expect(not path.exists(), "expected the socket to be removed")


@needs()
def stale_socket_is_replaced_and_a_live_one_is_not(case: Case):
    path = case.path("net.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = on_path(case)
    client = server.call()
    expect_both_ways(server.guest, client, 1)
    for number in range(2, 7):  # a client is let in only every 10 ms
        second = run_forwarder("-n", server.endpoint,
                               "-g", f"unixgram:{case.path('other.sock')}")
        expect_equal("exit status", second.returncode, 71)
        expect(f"{path}: in use by another running process" in second.stderr,
               f"expected to be told what is in use, found {second.stderr}")
        expect_both_ways(server.guest, client, number)
    expect(not case.path("other.sock").exists(), "expected nothing to be left")
    expect_equal("generation",
                 server.forwarder.status()["network"]["generation"], 1)
    server.forwarder.process.kill()
    expect(path.exists(), "expected a killed process to leave its socket")
    again = case.own(Forwarder(case.folder, server.endpoint,
                               f"unixgram:{case.path('guest.sock')}"))
    call(server.endpoint).close()
    expect_equal("exit status", again.stop(5), 0)


@needs()
def file_that_is_no_socket_is_left_alone(case: Case):
    path = case.path("net.sock")
    path.write_text("precious")
    done = run_forwarder("-n", f"listen-unix:{path}",
                         "-g", f"unixgram:{case.path('guest.sock')}")
    expect_equal("exit status", done.returncode, 71)
    expect("no socket" in done.stderr, done.stderr)
    expect_equal("the file", path.read_text(), "precious")


# --- clients ------------------------------------------------------------------

@needs()
def newest_client_is_served_and_the_one_before_is_told_by_the_end(case: Case):
    for name, make in (("path", on_path), ("port", on_port)):
        server = make(Corner(case, name))
        client = server.call()
        expect_both_ways(server.guest, client, 1)
        before = descriptors(server.forwarder.process.pid)
        for number in range(2, 12):
            newer = server.call()
            client.expect_end()
            expect_both_ways(server.guest, newer, number)
            client = newer
        status = server.forwarder.status()["network"]
        expect_equal("generation", status["generation"], 11)
        expect_equal("outages", status["outages"], 10)
        expect_equal("told", len(server.log_lines(
            f'{LOST} reason="{REPLACED}"')), 10)
        expect_equal("descriptors",
                     descriptors(server.forwarder.process.pid), before)


@needs("filter")
def new_client_takes_the_place_of_one_that_is_half_open(case: Case):
    server = on_port(case)
    gone = server.call()
    expect_both_ways(server.guest, gone, 1)
    fall_silent(gone.socket)
    server.guest.send(frame(2))  # never acknowledged
    called = time.monotonic()
    client = server.call()
    wait_for("it to be served", lambda: server.forwarder.status()
             ["network"]["generation"] == 2)
    expect_both_ways(server.guest, client, 3)
    expect(time.monotonic() - called < 1, "expected the change at once")
    expect(any(REPLACED in line for line in server.log_lines(LOST)),
           "expected to be told")


@needs("filter")
def new_client_takes_the_place_of_a_forwarder_that_is_silent(case: Case):
    server = on_port(case, ["keepalive.mode=peer"])
    gone = server.call()
    expect_both_ways(server.guest, gone, 1)
    fall_silent(gone.socket)
    called = time.monotonic()
    client = server.call()
    expect_equal("announcement", is_announcement(client.next_any()), True)
    expect(time.monotonic() - called > 0.9, "expected it to be asked first")
    expect_both_ways(server.guest, client, 2)
    expect(any(REPLACED in line for line in server.log_lines(LOST)),
           "expected to be told")


@needs()
def client_that_leaves_is_an_outage_until_the_next_one_comes(case: Case):
    server = on_path(case)
    client = server.call()
    expect_both_ways(server.guest, client, 1)
    client.close()
    wait_for("the outage", lambda: server.forwarder.status()
             ["network"]["state"] == "down")
    server.guest.send(frame(2))
    client = server.call()
    expect_equal("frame that waited", number_of(client.next()), 2)
    expect_equal("outages",
                 server.forwarder.status()["network"]["outages"], 1)


@needs()
def client_with_a_hostile_length_is_thrown_out_and_the_next_one_served(
        case: Case):
    server = on_port(case)
    client = server.call()
    expect_both_ways(server.guest, client, 1)
    client.send_bytes(header(0x7fffffff) + b"x" * 1000)
    client.expect_end()
    client = server.call()
    client.send_bytes(header(0) * 1000 + header(5) + b"short")  # no harm
    expect_both_ways(server.guest, client, 2)


# --- who may come in ----------------------------------------------------------

@needs()
def listening_beyond_the_loopback_is_refused_without_allow(case: Case):
    guest = f"unixgram:{case.path('guest.sock')}"
    for address in ("0.0.0.0", "[::]", "192.0.2.1"):
        done = run_forwarder("-n", f"listen-tcp:{address}:7000", "-g", guest)
        expect_equal(f"exit status for {address}", done.returncode, 78)
        expect("allow" in done.stderr, done.stderr)
    expect(not case.path("guest.sock").exists(), "expected nothing to start")


@needs()
def address_in_use_or_not_ours_is_told(case: Case):
    guest = f"unixgram:{case.path('guest.sock')}"
    server = on_port(case)
    for endpoint, word in ((server.endpoint, "in use"),
                           ("listen-tcp:192.0.2.1:7000", "assign")):
        done = run_forwarder("-n", endpoint, "-o", "network.allow=10.0.0.0/8",
                             "-g", guest.replace("guest", "other"))
        expect_equal("exit status", done.returncode, 71)
        expect(endpoint.partition(":")[2] in done.stderr
               and word in done.stderr, done.stderr)


@needs()
def stranger_is_closed_before_a_byte_is_read_and_told_with_a_limit(case: Case):
    server = on_port(case, ["network.allow=127.0.0.2/32, 10.0.0.0/8"])
    client = server.call("127.0.0.2")
    expect_both_ways(server.guest, client, 1)
    refused = 0
    started = time.monotonic()
    for number in range(200):
        with socket.socket() as stranger:
            stranger.settimeout(10)
            stranger.connect((LOOPBACK, int(server.endpoint.split(":")[-1])))
            try:
                stranger.sendall(framed(frame(1000 + number)))
                refused += stranger.recv(100) == b""
            except ConnectionError:
                refused += 1
        if number % 20 == 0:  # the one who may is undisturbed
            expect_both_ways(server.guest, client, number)
    seconds = time.monotonic() - started
    expect_equal("strangers refused", refused, 200)
    expect_both_ways(server.guest, client, 9)
    told = server.log_lines(REFUSED)
    expect(1 <= len(told) <= 6 + seconds,
           f"expected few lines, found {len(told)} in {seconds:.1f} s")
    expect(LOOPBACK in told[0] and "allow" in told[0], told[0])
    wait_until_equal("frames of the one who may", lambda: server.forwarder
                     .status()["network_to_guest"]["frames"], 1 + 10 + 1)
    expect_equal("generation",
                 server.forwarder.status()["network"]["generation"], 1)


def serve_as_nobody(tell: Callable, path: Path) -> None:
    """A daemon that tells what each of its clients has sent, or that it has
    ended without."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    listener = FakeDaemon(path).start().listener
    while True:
        listener.settimeout(None)
        client = listener.accept()[0]
        with client:
            data = client.recv(1000)
            tell(b"<" + data + b">")
            while data:
                data = client.recv(1000)


@needs("root")
def strangers_daemon_in_a_shared_folder_gets_no_frame(case: Case):
    folder = case.path("shared")
    folder.mkdir()
    folder.chmod(0o1777)
    case.folder.chmod(0o711)
    path = folder / "net.sock"
    stranger = case.own(Child(serve_as_nobody, path))
    forwarder = Configured(case)
    forwarder.reload("network", "endpoint", f"unix:{path}")
    wait_for("three dials", lambda: stranger.hear().count(b"<>") >= 3)
    told = forwarder.lines("warn link: daemon refused")
    expect(len(told) == 1 and f"runs as user {NOBODY}," in told[0],
           f"expected to be told once, found {told}")
    expect_equal("what it got", stranger.hear().strip(b"<>"), b"")

    forwarder.reload("network", "user", "nobody")
    wait_for("the connection",
             lambda: forwarder.status()["network"]["state"] == "up")
    forwarder.guest.send(frame(1))
    wait_for("the frame", lambda: frame(1) in stranger.hear())

    forwarder.reload("network", "user", str(NOBODY - 1))
    wait_for("it to be let go", lambda: stranger.hear().endswith(b"><>"))
    stranger.kill()
    daemon = case.own(FakeDaemon(path)).start()  # ours
    expect_both_ways(forwarder.guest, case.own(daemon.accept()), 2)


# --- reload -------------------------------------------------------------------

@needs()
def reload_moves_the_listener_and_keeps_one_that_stays(case: Case):
    forwarder = Configured(case)
    forwarder.reload("network", "hold", "forever")
    first, second = case.path("first.sock"), case.path("second.sock")
    port = free_port()
    daemon = case.own(forwarder.daemon.accept())
    forwarder.reload("network", "endpoint", f"listen-unix:{first}")
    daemon.expect_end()  # until then it gets the guest's frames
    client = case.own(call(f"listen-unix:{first}"))
    expect_both_ways(forwarder.guest, client, 1)
    forwarder.reload("keepalive", "count", "7")
    expect_both_ways(forwarder.guest, client, 2)

    forwarder.reload("network", "endpoint", f"listen-unix:{second}")
    client.expect_end()
    expect(not first.exists(), "expected the old socket to be removed")
    client = case.own(call(f"listen-unix:{second}"))
    expect_both_ways(forwarder.guest, client, 3)

    endpoint = f"listen-tcp:{LOOPBACK}:{port}"
    forwarder.reload("network", "endpoint", endpoint)
    client.expect_end()
    expect(not second.exists(), "expected the old socket to be removed")
    client = case.own(call(endpoint))
    expect_both_ways(forwarder.guest, client, 4)

    # Another list counts at once, also for the one who is in.
    forwarder.reload("network", "allow", "127.0.0.1/32")
    expect_both_ways(forwarder.guest, client, 5)
    forwarder.reload("network", "allow", "127.0.0.2/32")
    client.expect_end()
    wait_for("it to be told", lambda: forwarder.lines(
        f'{LOST} reason="the client is not in allow'))
    case.own(call(endpoint)).expect_end()
    client = case.own(call(endpoint, "127.0.0.2"))
    wait_for("it to be served", lambda: forwarder.status()
             ["network"]["generation"] == 5)
    expect_both_ways(forwarder.guest, client, 6)

    forwarder.reload("network", "endpoint", forwarder.daemon.endpoint)
    client.expect_end()
    daemon = case.own(forwarder.daemon.accept())
    expect_both_ways(forwarder.guest, daemon, 7)


@needs()
def reload_to_a_listener_that_cannot_be_keeps_the_old_one(case: Case):
    forwarder = Configured(case)
    forwarder.reload("network", "hold", "forever")
    path = case.path("listen.sock")
    daemon = case.own(forwarder.daemon.accept())
    forwarder.reload("network", "endpoint", f"listen-unix:{path}")
    daemon.expect_end()
    client = case.own(call(f"listen-unix:{path}"))
    expect_both_ways(forwarder.guest, client, 1)
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        forwarder.settings["network"]["endpoint"] = \
            f"listen-tcp:{LOOPBACK}:{port}"
        forwarder.write()
        forwarder.process.signal(signal.SIGHUP)
        wait_for("the refusal to be told",
                 lambda: f"{LOOPBACK}:{port}: " in forwarder.log.read_text())
        expect_both_ways(forwarder.guest, client, 2)
        expect(path.exists(), "expected the old socket to stay")


def move_to(forwarder: Configured, host: str, port: int) -> None:
    forwarder.settings["network"]["endpoint"] = f"listen-tcp:{host}:{port}"
    forwarder.write()
    forwarder.process.signal(signal.SIGHUP)


@needs()
def reload_moves_the_listener_to_another_address_of_its_port(case: Case):
    forwarder = Configured(case)
    port = free_port()
    forwarder.reload("network", "allow", "127.0.0.0/8")
    client = case.own(forwarder.daemon.accept())
    near, all_of_them, other = (f"listen-tcp:{host}:{port}" for host in
                                (LOOPBACK, "0.0.0.0", "127.0.0.2"))
    for number, (endpoint, address) in enumerate((
            (near, near), (all_of_them, other), (other, other), (near, near))):
        forwarder.reload("network", "endpoint", endpoint)
        client.expect_end()
        client = case.own(call(address))
        expect_both_ways(forwarder.guest, client, number)


@needs()
def reload_to_a_port_of_somebody_else_leaves_the_old_listener(case: Case):
    forwarder = Configured(case)
    port = free_port()
    forwarder.reload("network", "allow", "127.0.0.0/8")
    daemon = case.own(forwarder.daemon.accept())
    forwarder.reload("network", "endpoint", f"listen-tcp:{LOOPBACK}:{port}")
    daemon.expect_end()
    client = case.own(call(f"listen-tcp:{LOOPBACK}:{port}"))
    expect_both_ways(forwarder.guest, client, 1)
    with socket.create_server(("127.0.0.2", port)):
        move_to(forwarder, "0.0.0.0", port)
        wait_for("the refusal", lambda: forwarder.lines(
            "error config: nothing was changed"))
    expect_both_ways(forwarder.guest, client, 2)
    client = case.own(call(f"listen-tcp:{LOOPBACK}:{port}"))
    wait_for("it to be served", lambda: forwarder.status()
             ["network"]["generation"] == 3)
    expect_both_ways(forwarder.guest, client, 3)


# --- two forwarders -----------------------------------------------------------

def identity_of(user: Optional[pwd.struct_passwd]) -> dict:
    """For a Process. Only root can be somebody else."""
    if user is None or os.geteuid() != 0:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give(path: Path, user: Optional[pwd.struct_passwd]) -> None:
    if user is not None and os.geteuid() == 0:
        os.chown(path, user.pw_uid, user.pw_gid)


class Link:
    """Two guests, two forwarders, one connection."""

    def __init__(self, case: Case, listens: str, calls: str,
                 options: Sequence[str] = (),
                 far_user: Optional[pwd.struct_passwd] = None,
                 far_case: Optional[Case] = None) -> None:
        self.case = case
        self.near = Side(case, "near", calls, options)
        self.far = Side(far_case or case, "far", listens, options, far_user)

    def expect_frames(self, number: int) -> None:
        """Sent until they come: those in an ended connection are lost."""
        for sender, receiver in ((self.near, self.far), (self.far, self.near)):
            def comes() -> bool:
                sender.guest.send(frame(number))
                return frame(number) in receiver.guest.drain()
            wait_for(f"a frame from {sender.name} to {receiver.name}", comes)


class Side:
    def __init__(self, case: Case, name: str, network: str,
                 options: Sequence[str],
                 user: Optional[pwd.struct_passwd] = None) -> None:
        self.case, self.name = case, name
        self.network, self.options, self.user = network, options, user
        self.path = case.path(f"{name}-guest.sock")
        self.start()
        vm = case.path(f"{name}-vm.sock")
        self.guest = case.own(guest_on_path(vm, self.path))
        give(vm, user)
        self.guest.send(frame(0))  # so that it can be answered

    def start(self) -> None:
        self.forwarder = self.case.own(Forwarder(
            self.case.folder, self.network, f"unixgram:{self.path}",
            self.options, self.name, identity_of(self.user)))

    def status(self) -> dict:
        return self.forwarder.status()


@needs()
def two_forwarders_make_a_link_that_outlives_both(case: Case):
    path, port = case.path("link.sock"), free_port()
    for name, listens, calls in (
            ("unix", f"listen-unix:{path}", f"unix:{path}"),
            ("tcp", f"listen-tcp:{LOOPBACK}:{port}", f"tcp:{LOOPBACK}:{port}")):
        link = Link(Corner(case, name), listens, calls,
                    ["keepalive.mode=peer", "keepalive.interval=100ms"])
        link.expect_frames(1)
        for side in (link.far, link.near):
            wait_for("answered probes",
                     lambda: side.status()["keepalive"]["armed"]
                     and side.status()["keepalive"]["answered"])
        for killed, other in ((link.far, link.near), (link.near, link.far)):
            killed.forwarder.process.kill()
            wait_for("the outage", lambda: other.status()
                     ["network"]["state"] == "down")
            killed.start()
            killed.guest.close()
            killed.guest = case.own(guest_on_path(
                killed.case.path(f"{killed.name}-vm{killed is link.near}.sock"),
                killed.path))
            killed.guest.send(frame(0))
            link.expect_frames(2)


FLOOD_PER_SECOND = 5000
FLOOD_FRAMES = 400


def call_for_ever(tell: Callable, port: int) -> None:
    """Connects as a stranger would who wants the peer's place. The newest hundred
    of its connections are open, none leaves its port behind."""
    calls: collections.deque = collections.deque()
    due = time.monotonic()
    while True:
        for _ in range(FLOOD_PER_SECOND // 500):
            client = socket.socket()
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack("ii", 1, 0))
            client.connect_ex((LOOPBACK, port))
            calls.append(client)
            if len(calls) > 100:
                calls.popleft().close()
        tell(b"x" * (FLOOD_PER_SECOND // 500))
        due = max(due + 0.002, time.monotonic() - 0.01)
        time.sleep(max(0.0, due - time.monotonic()))


@needs()
def strangers_that_call_in_floods_do_not_take_a_peers_place(case: Case):
    port = free_port()
    link = Link(case, f"listen-tcp:{LOOPBACK}:{port}", f"tcp:{LOOPBACK}:{port}",
                ["keepalive.mode=peer", "network.hold=forever",
                 "guest.stall=1s"])
    link.expect_frames(1)
    for side in (link.near, link.far):
        side.guest.drain()
    probes = link.far.status()["keepalive"]["probes"]
    started = time.monotonic()
    strangers = case.own(Child(call_for_ever, port))
    sent = list(range(2, 2 + FLOOD_FRAMES))
    came: dict[str, list[int]] = {"near": [], "far": []}

    def all_came() -> bool:
        for side in (link.near, link.far):
            came[side.name] += [
                number for number in numbers(
                    [one for one in side.guest.drain()
                     if not is_announcement(one)])
                if number >= sent[0]]  # not of those that made sure of the link
        return all(len(frames) >= len(sent) for frames in came.values())

    for number in sent:
        for side in (link.near, link.far):
            side.guest.send(frame(number))
        time.sleep(0.01)
        all_came()
    try:
        wait_for("all frames", all_came)
    except Failure:
        pass  # which of them is said below
    for name, frames in came.items():
        expect(frames == sent, f"expected {len(sent)} frames in order to "
               f"reach {name}, found {len(frames)}, "
               f"without {sorted(set(sent) - set(frames))[:9]}")
    seconds = time.monotonic() - started
    strangers.kill()
    expect(len(strangers.hear()) > 1000, "expected many calls")
    status = link.far.status()
    expect_equal("generation", status["network"]["generation"], 1)
    expect(status["keepalive"]["probes"] - probes <= 5 * seconds + 2,
           f"expected few PINGs, found {status['keepalive']['probes']}")
    told = lines_of(link.far.forwarder.log_text(), REFUSED)
    expect(told and "the present one answers" in told[0], str(told))


# --- somebody else's tunnel ---------------------------------------------------

class Tunnel:
    """ssh -L between Unix sockets, to an sshd of our own, which serves nobody
    but us: an ordinary user's process with keys made for it. What it connects
    to is that user's alone."""

    def __init__(self, case: Case, target: Path,
                 user: pwd.struct_passwd) -> None:
        self.case = case
        self.path = case.path("tunnel.sock")
        self.target = target
        self.user = user
        self.folder = case.path("ssh")
        self.folder.mkdir()
        for name in ("host", "client"):
            self._keygen(name)
        (self.folder / "client.pub").rename(self.folder / "authorized")
        for path in (self.folder, *self.folder.iterdir()):
            if path.name != "client":
                give(path, user)
        self.server_port = free_port()
        self.server = case.own(self._start_server())
        self.start()

    def _keygen(self, name: str) -> None:
        log = self.case.path("ssh-keygen.log")
        process = self.case.own(Process(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "",
             "-f", self.folder / name], log))
        expect_equal("status of ssh-keygen", process.wait(), 0)

    def _start_server(self) -> Process:
        options = {"ListenAddress": f"{LOOPBACK}:{self.server_port}",
                   "HostKey": self.folder / "host",
                   "AuthorizedKeysFile": self.folder / "authorized",
                   "PidFile": "none", "StrictModes": "no",
                   # It alone lets in a user without a password.
                   "UsePAM": "yes",
                   "PasswordAuthentication": "no",
                   "KbdInteractiveAuthentication": "no"}
        sshd, environment = sshd_for(self.case)
        line = [sshd, "-D", "-e", "-f", "/dev/null"]
        for name, value in options.items():
            line += ["-o", f"{name}={value}"]
        server = Process(line, self.case.path("sshd.log"), env=environment,
                         **identity_of(self.user))
        wait_for("sshd to listen", lambda: not server.alive()
                 or "Server listening" in server.log.read_text())
        expect(server.alive(), "expected sshd to start")
        return server

    def start(self) -> None:
        options = {"StreamLocalBindUnlink": "yes",
                   "StrictHostKeyChecking": "no", "IdentitiesOnly": "yes",
                   "UserKnownHostsFile": "/dev/null", "BatchMode": "yes",
                   "ExitOnForwardFailure": "yes", "IdentityAgent": "none"}
        line = ["ssh", "-N", "-F", "none", "-i", self.folder / "client",
                "-p", self.server_port, "-L", f"{self.path}:{self.target}"]
        for name, value in options.items():
            line += ["-o", f"{name}={value}"]
        self.client = self.case.own(Process(
            [*line, f"{self.user.pw_name}@{LOOPBACK}"],
            self.case.path("ssh.log")))

    def kill(self) -> None:
        self.client.kill()


@needs("ssh")
def link_passes_through_ssh_and_returns_with_it(case: Case):
    # As root sshd would want a folder in /run and a user of its own.
    user = pwd.getpwuid(NOBODY if os.geteuid() == 0 else os.geteuid())
    far = Corner(case, "far-host")
    if os.geteuid() == 0:
        case.folder.chmod(0o711)
    give(far.folder, user)
    tunnel = Tunnel(case, far.path("link.sock"), user)
    link = Link(case, f"listen-unix:{tunnel.target}", f"unix:{tunnel.path}",
                ["keepalive.mode=peer", "keepalive.interval=200ms"], user, far)
    link.expect_frames(1)
    for round_number in (1, 2):
        tunnel.kill()
        for side in (link.near, link.far):
            wait_for("the outage", lambda: side.status()
                     ["network"]["state"] == "down")
        tunnel.start()
        link.expect_frames(1 + round_number)
        for side in (link.near, link.far):
            expect_equal("outages", side.status()["network"]["outages"],
                         round_number)
    # The far forwarder ends: the tunnel takes calls that lead nowhere.
    link.far.forwarder.process.kill()
    wait_for("the outage", lambda: link.near.status()
             ["network"]["outages"] == 3)
    dials = link.near.status()["network"]["dials"]
    wait_for("calls that lead nowhere", lambda: link.near.status()
             ["network"]["dials"] >= dials + 2)
    expect_equal("outages", link.near.status()["network"]["outages"], 3)
