"""Guests that use a stream. The suite guest_stream tests how a client becomes
the guest; these tests add a real VM, the threads, and clients that do harm."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from pathlib import Path
from types import SimpleNamespace

from daemons import Iperf3Server, L2Daemon
from forwarder import Forwarder, ask_status
from guest_test import (PING, RESTART_DELAYS, start_daemon,
                        wait_for_frames_after)
from harness import FORWARDER, Case, expect, expect_equal, needs, wait_for
from peers import (Child, Connection, FakeDaemon, descriptors, frame,
                   number_of, pour, resident_kib)
from resources_test import wakeups
from service_test import FOLDER, NET, SOCKET_UNIT, UNIT, Service, meet
from vm import Guest, received_bytes

OPTIONS = ["guest.stall=1s", "network.hold=1m"]


def unread(stream: socket.socket) -> int:
    """What the peer has not read yet, as the kernel accounts for it."""
    answer = fcntl.ioctl(stream, termios.TIOCOUTQ, bytes(4))
    return struct.unpack("i", answer)[0]


# --- a real VM ----------------------------------------------------------------

def outlive_ten_kills(case: Case, daemon: L2Daemon, guest: Guest,
                      status) -> None:
    """One TCP session of the guest, in both directions at once."""
    server = case.own(Iperf3Server(case.folder, daemon.namespace,
                                   daemon.ADDRESS))
    guest.run(PING)
    session = guest.start(
        f"iperf3 --json --client {daemon.ADDRESS} --time 15 --bidir")
    wait_for("the session to begin",
             lambda: "connected to" in server.log.read_text(), 20)
    for delay in RESTART_DELAYS:
        generation = status()["network"]["generation"]
        daemon.kill()
        time.sleep(delay)
        daemon.start()
        wait_for_frames_after(SimpleNamespace(status=status), generation,
                              daemon)
    expect(session.alive(), "expected the session to outlive the last kill")
    expect(received_bytes(session.wait(40)) > 0, "expected bytes to arrive")
    drops = status()["guest_to_network"]["drops"]
    expect(not any(drops.values()), f"expected no drops, found {drops}")


@needs("guest", "namespaces", "tun", "iperf3", limit=120)
def vm_on_a_stream_outlives_ten_kills_of_the_daemon_and_may_restart(
        case: Case):
    daemon = start_daemon(case)
    forwarder = Forwarder(case, f"unix:{daemon.socket}",
                          f"listen-unix:{case.path('guest.sock')}", OPTIONS)
    netdev = ("stream,id=n0,server=off,addr.type=unix,"
              f"addr.path={case.path('guest.sock')}")
    guest = case.own(Guest(case.folder, netdev, L2Daemon.GUEST_ADDRESS))
    expect_equal("peer", forwarder.value("guest.peer"),
                 f"pid:{guest.process.pid}")
    outlive_ten_kills(case, daemon, guest, forwarder.status)
    guest.kill()
    forwarder.until("guest.peer", "")
    case.own(Guest(case.folder, netdev, L2Daemon.GUEST_ADDRESS,
                   name="next")).run(PING)
    forwarder.stop()


@needs("guest", "namespaces", "tun", "iperf3", limit=120)
def vm_on_a_given_stream_outlives_ten_kills_of_the_daemon(case: Case):
    daemon, control = start_daemon(case), case.path("control.sock")
    options = [word for one in [f"control.socket={control}", *OPTIONS]
               for word in ("-o", one)]
    guest = case.own(Guest(
        case.folder, "stream,id=n0,server=off,addr.type=fd,addr.str={fd}",
        L2Daemon.GUEST_ADDRESS,
        prefix=[FORWARDER, "-n", f"unix:{daemon.socket}", "-g", "stream",
                *options, "--"]))
    outlive_ten_kills(case, daemon, guest, lambda: ask_status(control))
    guest.power_off()
    expect_equal("exit status", guest.process.wait(), 0)


# --- clients ------------------------------------------------------------------

class Listening(Forwarder):
    """With a stand-in daemon, whose first connection is `network`."""

    def __init__(self, case: Case) -> None:
        daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
        self.path = case.path("guest.sock")
        super().__init__(case, daemon.endpoint, f"listen-unix:{self.path}",
                         ["log.level=info"])
        self.network = case.own(daemon.accept())

    def client(self) -> Connection:
        return self.case.own(connect(self.path))

    def exchange(self, client: Connection, number: int) -> None:
        client.send(number)
        self.network.expect(number)
        self.network.send(number)
        client.expect(number)


def connect(path: Path) -> Connection:
    """Waits if the backlog is full."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return Connection(client)


@needs("plain-build")
def thousand_clients_that_do_harm_leave_nothing_behind(case: Case):
    forwarder = Listening(case)
    client = forwarder.client()
    forwarder.exchange(client, 1)
    before = descriptors(forwarder.pid)
    client.close()
    for number in range(1000):
        with connect(forwarder.path).socket as harmful:
            if number % 2:
                harmful.send(struct.pack(">I", 0xffffffff)[:number % 5])
    client = forwarder.client()
    for byte in range(3):  # half a header, then the rest of a frame
        client.socket.send(bytes(1))
        wait_for("the byte to be read", lambda: not unread(client.socket))
    client.socket.send(bytes([60]) + frame(2))
    forwarder.network.expect(2)
    forwarder.path.unlink()
    wait_for("the socket to be bound again", forwarder.path.exists)
    forwarder.exchange(client, 3)
    client.close()
    client = forwarder.client()
    forwarder.exchange(client, 4)
    expect_equal("descriptors", descriptors(forwarder.pid), before)
    expect(resident_kib(forwarder.pid) < 4096, "expected 4 MiB at most")
    expect_equal("outages", forwarder.value("network.outages"), 0)
    wait_for("all threads to come to rest",
             lambda: wakeups(forwarder, 0.5) == 0)
    forwarder.stop()


@needs()
def client_that_never_reads_only_loses_its_own_frames(case: Case):
    """The network is not held back, and a stop takes no longer."""
    forwarder = Listening(case)
    client = forwarder.client()
    forwarder.exchange(client, 1)
    case.own(Child(pour, forwarder.network, 40000))
    forwarder.until("down.drops.guest_slow", lambda found: found > 2000)
    client.send(2)  # it is still heard
    forwarder.until("up.frames", 2)
    # What it reads at last are whole frames in order.
    last = 0
    for _ in range(50):
        number = number_of(client.next())
        expect(number > last, f"expected more than {last}, found {number}")
        last = number
    forwarder.stop()


def connect_while_it_restarts(case: Case, unit: str) -> None:
    """Its connection ends with the process, but the socket stays."""
    service = Service(case)
    path = f"{FOLDER}/guest.sock"
    service.configure(f"guest.endpoint=listen-unix:{path}")
    service.machine.write(
        "/etc/systemd/system/forwarder@.socket.d/stream.conf",
        "[Socket]\nListenDatagram=\n"
        "ListenStream=/run/forwarder/%i/guest.sock\n")
    service.machine.systemctl("daemon-reload")
    daemon = service.machine.daemon(NET)
    service.start(unit)

    def client() -> Connection:
        return Connection(service.machine.socket(lambda: connect(path).socket))

    guest = client()
    network = meet(case, daemon)
    for number, command in enumerate((["kill", "--signal=KILL"], ["restart"])):
        guest.send(number)
        network.expect(number)
        pid = service.pid
        service.machine.systemctl(*command, UNIT)
        guest.expect_end()
        guest = client()
        service.until_restarted(pid)
        network = meet(case, daemon)
    guest.send(9)
    network.expect(9)


@needs("systemd", "root")
def vm_on_a_stream_can_connect_while_the_service_restarts(case: Case):
    connect_while_it_restarts(case, UNIT)


@needs("systemd", "root")
def vm_on_a_stream_of_a_socket_unit_can_connect_at_any_time(case: Case):
    connect_while_it_restarts(case, SOCKET_UNIT)
