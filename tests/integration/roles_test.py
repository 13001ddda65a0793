"""The other role: the forwarder listens, so that two of them make one link, on
one host, between two, or through a tunnel of another program."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, Optional, Sequence

from harness import (NEEDS, ROOT, Case, Process, above, expect, expect_equal,
                     lacks_program, needs, wait_for)
from peers import (NOBODY, Bridge, Child, Connection, FakeDaemon, WithGuest,
                   frame, is_announcement)
from probes import fall_silent

LOOPBACK = "127.0.0.1"
LOST = "warn link: lost"
REFUSED = "warn link: client refused"
REPLACED = "replaced by a new client"
# The system's, or one that is unpacked for this test and never installed.
SYSTEM_SSHD = Path("/usr/sbin/sshd")
OWN_SSH = ROOT / "build" / "ssh"


def lacks_ssh() -> Optional[str]:
    if not os.access(SYSTEM_SSHD, os.X_OK) and subprocess.run(
            [ROOT / "tests" / "ssh" / "build"]).returncode != 0:
        return f"{SYSTEM_SSHD} (package openssh-server)"
    return lacks_program("ssh", "openssh-client")()


NEEDS["ssh"] = lacks_ssh


def sshd_for(case: Case) -> tuple[Path, dict[str, str]]:
    """The program and its environment, where any user can read it."""
    if os.access(SYSTEM_SSHD, os.X_OK):
        return SYSTEM_SSHD, dict(os.environ)
    copy = shutil.copytree(OWN_SSH, case.path("sshd"), symlinks=True)
    libraries = {str(path.parent) for path in copy.rglob("*.so*")}
    return copy / "usr/sbin/sshd", {
        **os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as taken:
        return taken.getsockname()[1]


class Listening(WithGuest):
    """A forwarder that listens, and its guest."""

    def __init__(self, case: Case, endpoint: str,
                 options: Sequence[str] = ()) -> None:
        super().__init__(case, endpoint, ["network.hold=forever", *options])

    def call(self, source: str = LOOPBACK) -> Connection:
        return call(self, source)


def call(forwarder: WithGuest, source: str = LOOPBACK) -> Connection:
    """Where the forwarder listens by its configuration."""
    kind, _, where = forwarder.settings["network.endpoint"].partition(":")
    if kind == "listen-unix":
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(where)
    else:
        host, _, port = where.rpartition(":")
        client = socket.create_connection((host, int(port)), 10, (source, 0))
    return forwarder.case.own(Connection(client))


def on_path(case: Case, options: Sequence[str] = ()) -> Listening:
    return Listening(case, f"listen-unix:{case.path('net.sock')}", options)


def on_port(case: Case, options: Sequence[str] = ()) -> Listening:
    return Listening(case, f"listen-tcp:{LOOPBACK}:{free_port()}", options)


# --- clients ------------------------------------------------------------------

@needs("filter")
def new_client_takes_the_place_of_one_that_is_silent(case: Case):
    """At once if the silent client does not acknowledge data; one that is a
    forwarder is probed first."""
    for mode in ("passive", "peer"):
        server = on_port(case.corner(mode), [f"keepalive.mode={mode}"])
        gone = server.call()
        server.exchange(gone, 1)
        fall_silent(gone.socket)
        server.until("keepalive.idle_ms", above(50))  # all that it sent is read
        if mode == "passive":
            server.guest.send(2)
            server.until("up.frames", 2)  # it went to the silent one
        called = time.monotonic()
        client = server.call()
        expect_equal("announcement", is_announcement(client.next_any()), True)
        took = time.monotonic() - called
        expect(took > 0.9 if mode == "peer" else took < 1,
               f"mode {mode}: served after {took:.2f} s")
        server.exchange(client, 3)
        server.until_line(LOST, REPLACED)


# --- who may connect ----------------------------------------------------------

def serve_as_nobody(tell: Callable, path: Path) -> None:
    """A daemon that reports what each of its clients has sent, if anything."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    listener = FakeDaemon(path).start().listener
    listener.settimeout(None)
    while True:
        with listener.accept()[0] as client:
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
    bridge = Bridge(case, [f"network.endpoint=unix:{path}", "log.level=info"])
    wait_for("three dials", lambda: stranger.hear().count(b"<>") >= 3)
    bridge.until_line("warn link: daemon not trusted", f"runs as user {NOBODY},")
    bridge.until_lines("warn link: daemon not trusted", 1)
    expect_equal("what it got", stranger.hear().strip(b"<>"), b"")

    bridge.reload("network.user=nobody")
    bridge.until("network.state", "up")
    bridge.guest.send(1)
    wait_for("the frame", lambda: frame(1) in stranger.hear())

    bridge.reload(f"network.user={NOBODY - 1}")
    wait_for("it to be let go", lambda: stranger.hear().endswith(b"><>"))
    stranger.kill()
    daemon = case.own(FakeDaemon(path)).start()  # ours
    bridge.exchange(case.own(daemon.accept()), 2)


# --- reload -------------------------------------------------------------------

@needs()
def reload_moves_the_listener_and_keeps_one_that_stays(case: Case):
    bridge = Bridge(case, ["network.hold=forever", "network.allow=127.0.0.0/8"])
    client = bridge.accept()
    old: Optional[Path] = None
    for number, path in enumerate(("first.sock", "second.sock", "")):
        bridge.reload("network.endpoint=" + (
            f"listen-unix:{case.path(path)}" if path
            else f"listen-tcp:{LOOPBACK}:{free_port()}"))
        client.expect_end()  # until then it gets the guest's frames
        expect(not old or not old.exists(), "expected no old socket")
        client, old = call(bridge), case.path(path)
        bridge.exchange(client, number)
        bridge.reload(f"keepalive.count={7 + number}")
        bridge.exchange(client, number)

    # A new list applies at once, also to the present client.
    bridge.reload("network.allow=127.0.0.1/32")
    bridge.exchange(client, 5)
    bridge.reload("network.allow=127.0.0.2/32")
    client.expect_end()
    bridge.until_line(f'{LOST} reason="the client is no longer in')
    call(bridge).expect_end()
    client = call(bridge, "127.0.0.2")
    bridge.until("network.generation", 5)
    bridge.exchange(client, 6)

    bridge.reload(f"network.endpoint={bridge.daemon.endpoint}")
    client.expect_end()
    bridge.exchange(bridge.accept(), 7)


# --- two forwarders -----------------------------------------------------------

def identity_of(user: Optional[pwd.struct_passwd]) -> Optional[dict]:
    """The user to run a Process as. Only root can choose one."""
    if user is None or os.geteuid() != 0:
        return None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give(path: Path, user: Optional[pwd.struct_passwd]) -> None:
    if user is not None and os.geteuid() == 0:
        os.chown(path, user.pw_uid, user.pw_gid)


class Side(WithGuest):
    """One side of a link. Its guest has a name, so that it can be answered."""

    def __init__(self, case: Case, network: str, options: Sequence[str],
                 name: str, user: Optional[pwd.struct_passwd] = None) -> None:
        super().__init__(case, network, options, name=name,
                         identity=identity_of(user))
        give(self.guest.path, user)
        self.guest.send(0)


class Link:
    """Two guests, two forwarders, one connection."""

    def __init__(self, case: Case, listens: str, calls: str,
                 options: Sequence[str],
                 far_user: Optional[pwd.struct_passwd] = None,
                 far_case: Optional[Case] = None) -> None:
        self.near = Side(case, calls, options, "near")
        self.far = Side(far_case or case, listens, options, "far", far_user)
        self.both = (self.near, self.far)

    def expect_frames(self, number: int) -> None:
        """Sent until they come: those in an ended connection are lost."""
        for sender, receiver in (self.both, self.both[::-1]):
            def comes() -> bool:
                sender.guest.send(number)
                return frame(number) in receiver.guest.drain()
            wait_for(f"a frame from {sender.name} to {receiver.name}", comes)

    def until(self, path: str, wanted: object) -> None:
        for side in self.both:
            side.until(path, wanted)


@needs()
def link_of_two_forwarders_survives_the_restart_of_either(case: Case):
    path, port = case.path("link.sock"), free_port()
    options = ["keepalive.mode=peer", "keepalive.interval=100ms"]
    for name, listens, calls in (
            ("unix", f"listen-unix:{path}", f"unix:{path}"),
            ("tcp", f"listen-tcp:{LOOPBACK}:{port}", f"tcp:{LOOPBACK}:{port}")):
        corner = case.corner(name)
        link = Link(corner, listens, calls, options)
        link.expect_frames(1)
        link.until("keepalive.armed", True)
        link.until("keepalive.answered", bool)
        link.far.process.kill()
        link.near.until("network.state", "down")
        link.far.guest.remove()
        link.far = Side(corner, listens, options, "far")
        link.both = (link.near, link.far)
        link.expect_frames(2)
        link.near.process.kill()
        link.far.until("network.state", "down")
        link.near.guest.remove()
        link.near = Side(corner, calls, options, "near")
        link.both = (link.near, link.far)
        link.expect_frames(3)


@needs()
def strangers_do_not_replace_a_peer_that_answers(case: Case):
    port = free_port()
    link = Link(case, f"listen-tcp:{LOOPBACK}:{port}", f"tcp:{LOOPBACK}:{port}",
                ["keepalive.mode=peer", "network.hold=forever"])
    link.expect_frames(1)
    probes = link.far.value("keepalive.probes")
    started = time.monotonic()
    for number in range(10):
        with socket.create_connection((LOOPBACK, port), 10) as stranger:
            expect_equal("what it gets", stranger.recv(100), b"")
        link.expect_frames(2 + number)
    seconds = time.monotonic() - started
    asked = link.far.value("keepalive.probes") - probes
    expect(1 <= asked <= 5 * seconds + 2, f"expected few PINGs, found {asked}")
    expect_equal("generation", link.far.value("network.generation"), 1)
    link.far.until_line(REFUSED, "the present client answers")


# --- a tunnel of another program ----------------------------------------------

def options_of(values: dict) -> list:
    return sum((["-o", f"{name}={value}"] for name, value in values.items()),
               [])


class Tunnel:
    """ssh -L between Unix sockets, to a private sshd that runs as an ordinary user
    with keys made for it. It connects to that user's sockets only."""

    def __init__(self, case: Case, target: Path,
                 user: pwd.struct_passwd) -> None:
        self.case, self.target, self.user = case, target, user
        self.path = case.path("tunnel.sock")
        self.folder = case.path("ssh")
        self.folder.mkdir()
        for name in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C",
                            "", "-f", self.folder / name], check=True)
        (self.folder / "client.pub").rename(self.folder / "authorized")
        for path in (self.folder, *self.folder.iterdir()):
            if path.name != "client":
                give(path, user)
        self.server_port = free_port()
        self._start_server()
        self.start()

    def _start_server(self) -> None:
        sshd, environment = sshd_for(self.case)
        server = self.case.own(Process(
            [sshd, "-D", "-e", "-f", "/dev/null", *options_of({
                "ListenAddress": f"{LOOPBACK}:{self.server_port}",
                "HostKey": self.folder / "host",
                "AuthorizedKeysFile": self.folder / "authorized",
                "PidFile": "none", "StrictModes": "no",
                # It alone lets in a user without a password.
                "UsePAM": "yes",
                "PasswordAuthentication": "no",
                "KbdInteractiveAuthentication": "no"})],
            self.case.path("sshd.log"), env=environment,
            **identity_of(self.user) or {}))
        wait_for("sshd to listen", lambda: not server.alive()
                 or "Server listening" in server.log.read_text())
        expect(server.alive(), "expected sshd to start")

    def start(self) -> None:
        self.client = self.case.own(Process(
            ["ssh", "-N", "-F", "none", "-i", self.folder / "client",
             "-p", self.server_port, "-L", f"{self.path}:{self.target}",
             *options_of({"StreamLocalBindUnlink": "yes",
                          "StrictHostKeyChecking": "no",
                          "IdentitiesOnly": "yes", "IdentityAgent": "none",
                          "UserKnownHostsFile": "/dev/null",
                          "BatchMode": "yes", "ExitOnForwardFailure": "yes"}),
             f"{self.user.pw_name}@{LOOPBACK}"], self.case.path("ssh.log")))

    def kill(self) -> None:
        self.client.kill()


@needs("ssh")
def link_passes_through_ssh_and_returns_with_it(case: Case):
    # As root sshd would want a folder in /run and a user of its own.
    user = pwd.getpwuid(NOBODY if os.geteuid() == 0 else os.geteuid())
    far = case.corner("far-host")
    if os.geteuid() == 0:
        case.folder.chmod(0o711)
    give(far.folder, user)
    tunnel = Tunnel(case, far.path("link.sock"), user)
    link = Link(case, f"listen-unix:{tunnel.target}", f"unix:{tunnel.path}",
                ["keepalive.mode=peer", "keepalive.interval=200ms"], user, far)
    link.expect_frames(1)
    for round_number in (1, 2):
        tunnel.kill()
        link.until("network.state", "down")
        tunnel.start()
        link.expect_frames(1 + round_number)
        link.until("network.outages", round_number)
    # Without the far forwarder the tunnel accepts connections and closes them.
    link.far.process.kill()
    link.near.until("network.outages", 3)
    dials = link.near.value("network.dials")
    link.near.until("network.dials", lambda found: found >= dials + 2)
    expect_equal("outages", link.near.value("network.outages"), 3)
