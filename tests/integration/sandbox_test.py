"""The units that an operator installs, in a real systemd: every kind of endpoint
works in its unit's sandbox, and the sandbox holds."""

from __future__ import annotations

import socket
import struct
from typing import Sequence

from harness import Case, expect, expect_equal, needs, wait_for
from peers import Child, Connection, FakeDaemon, FakeGuest, exchange
from probes import (ARP, OTHER_MAC, arp_question, is_type, next_where)
from systemd import Machine

NETWORK = "/run/net.sock"
PORT = 7000
DNS_PORT = 53


class Service:
    """An instance of a template, its sockets below /run, and its guest's."""

    def __init__(self, machine: Machine, unit: str, network: str,
                 options: Sequence[str] = ()) -> None:
        self.machine, self.unit = machine, unit
        self.name = unit.partition("@")[2]
        self.folder = f"/run/forwarder/{self.name}"
        self.guest_path = f"{self.folder}/guest.sock"
        settings = {"network.endpoint": network,
                    "guest.endpoint": f"unixgram:{self.guest_path}",
                    "guest.mode": "0660",
                    "control.socket": f"{self.folder}/control.sock"}
        settings.update(option.split("=", 1) for option in options)
        machine.write(f"/etc/forwarder/{self.name}.ini",
                      "".join("[{}]\n{} = {}\n".format(*name.split("."), value)
                              for name, value in settings.items()))

    def start(self) -> Service:
        self.machine.systemctl("start", self.unit)
        return self

    def until_journal(self, *words: str) -> str:
        return self.machine.until_journal(self.unit, *words)

    def guest(self) -> FakeGuest:
        return self.machine.guest(f"/run/{self.name}-vm.sock", self.guest_path)

    def accept(self, daemon: FakeDaemon) -> Connection:
        connection = self.machine.case.own(daemon.accept())
        self.until_journal("link: up")
        return connection

    def call(self, family: int, address: object) -> Connection:
        """Connects where the forwarder listens."""
        def connect() -> socket.socket:
            client = socket.socket(family)
            client.connect(address)
            return client
        connection = Connection(self.machine.socket(connect))
        self.until_journal("link: up")
        return connection

    def expect_both_ways(self, connection: Connection) -> None:
        exchange(self.guest(), connection, 1)


def start(machine: Machine, unit: str, network: str, options: Sequence[str] = ()
          ) -> Service:
    return Service(machine, unit, network, options).start()


# --- every endpoint -----------------------------------------------------------

@needs("root", "systemd", "plain-build")
def unix_service_finds_a_daemon_that_starts_after_it(case: Case):
    """By watching the path: between two dials a minute passes."""
    machine = Machine(case)
    service = start(machine, "forwarder@vm1", "unix:/run/later/net.sock",
                    ["reconnect.min=1m", "reconnect.max=1m"])
    service.until_journal("waiting for the daemon")
    machine.path("/run/later").mkdir()
    machine.path("/run/later").chmod(0o755)
    daemon = machine.daemon("/run/later/net.sock")
    service.expect_both_ways(service.accept(daemon))


@needs("root", "systemd", "plain-build")
def unix_service_listens_in_its_runtime_directory(case: Case):
    machine = Machine(case)
    path = "/run/forwarder/vm1/net.sock"
    service = start(machine, "forwarder@vm1", f"listen-unix:{path}")
    service.until_journal("service: started")
    service.expect_both_ways(service.call(socket.AF_UNIX, path))


def answer_lookups(tell, server: FakeDaemon) -> None:
    """A name server in whose opinion every name means 127.0.0.1."""
    server.socket.settimeout(None)
    while True:
        question, client = server.socket.recvfrom(512)
        asks_ipv4 = question[question.index(0, 12) + 2] == 1
        end = question.index(0, 12) + 5
        answer = (question[:2] + struct.pack("!6H", 0x8180, 1, asks_ipv4, 0, 0,
                                             0)[:10] + question[12:end])
        if asks_ipv4:
            answer += struct.pack("!HHHIH", 0xc00c, 1, 1, 60, 4)
            answer += socket.inet_aton("127.0.0.1")
        server.socket.sendto(answer, client)


def name_server(machine: Machine) -> FakeGuest:
    def make() -> socket.socket:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", DNS_PORT))
        return server
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    machine.write("/etc/nsswitch.conf", "hosts: files dns\n")
    server = FakeGuest(machine.socket(make))
    machine.case.own(Child(answer_lookups, server))
    return server


@needs("root", "systemd", "plain-build")
def tcp_service_dials_an_address_and_a_name(case: Case):
    machine = Machine(case)
    name_server(machine)
    daemon = machine.daemon()
    for name, host in (("vm1", "127.0.0.1"), ("vm2", "daemon.example")):
        service = start(machine, f"forwarder-tcp@{name}",
                        f"tcp:{host}:{daemon.port}")
        service.expect_both_ways(service.accept(daemon))


@needs("root", "systemd", "plain-build")
def tcp_service_listens(case: Case):
    machine = Machine(case)
    service = start(machine, "forwarder-tcp@vm1",
                    f"listen-tcp:127.0.0.1:{PORT}")
    service.until_journal("service: started")
    service.expect_both_ways(
        service.call(socket.AF_INET, ("127.0.0.1", PORT)))


def expect_tap_answers(service: Service, connection: Connection) -> None:
    """The device's own kernel answers a question from the network."""
    machine = service.machine
    machine.run("ip", "address", "add", "192.0.2.1/24", "dev", "vm0")
    machine.run("ip", "neighbor", "replace", "192.0.2.2", "lladdr",
                OTHER_MAC.hex(":"), "dev", "vm0")
    connection.send(arp_question((OTHER_MAC, "192.0.2.2"), "192.0.2.1"))
    next_where(connection, lambda one: is_type(ARP, one) and one[21] == 2)


@needs("root", "systemd", "plain-build", "tun")
def tap_service_creates_a_device_or_takes_one_of_its_user(case: Case):
    """The second without any capability, as a comment in the unit says."""
    for corner, persistent in (("creates", False), ("takes", True)):
        machine = Machine(case.corner(corner))
        if persistent:
            machine.run("ip", "tuntap", "add", "vm0", "mode", "tap", "user",
                        "forwarder")
            machine.run("ip", "link", "set", "vm0", "up")
            machine.write(
                "/etc/systemd/system/forwarder-tap@vm1.service.d/user.conf",
                "[Service]\nCapabilityBoundingSet=\nAmbientCapabilities=\n")
            machine.systemctl("daemon-reload")
        daemon = machine.daemon(NETWORK)
        service = start(machine, "forwarder-tap@vm1", f"unix:{NETWORK}",
                        ["guest.endpoint=tap:vm0"])
        expect_tap_answers(service, service.accept(daemon))


@needs("root", "systemd", "plain-build")
def socket_unit_starts_the_service_with_the_first_frame(case: Case):
    """Also when the service was stopped, which removes the socket's file."""
    machine = Machine(case)
    service = Service(machine, "forwarder@vm1", f"unix:{NETWORK}")
    daemon = machine.daemon(NETWORK)
    machine.systemctl("start", "forwarder@vm1.socket")
    guest = service.guest()
    expect_equal("process", machine.pid_of(service.unit), 0)
    for number in (1, 3):
        guest.send(number)
        connection = service.accept(daemon)
        connection.expect(number)
        connection.send(number + 1)
        guest.expect(number + 1)
        machine.systemctl("stop", service.unit)
    machine.systemctl("stop", "forwarder@vm1.socket")
    expect_equal("files", machine.run("ls", "/run/forwarder"), "")
