"""The units that an operator installs, in a real systemd: every kind of endpoint
works in its unit's sandbox, and the sandbox holds."""

from __future__ import annotations

import json
import os
import plistlib
import re
import socket
import struct
import subprocess
import time
from typing import Callable, Sequence

from forwarder import run_forwarder
from harness import ROOT, Case, expect, expect_equal, needs, wait_until
from peers import MAC, Child, Connection, FakeDaemon, FakeGuest, exchange
from probes import ARP, OTHER_MAC, arp_question, is_type, next_where
from systemd import Machine

NETWORK = "/run/net.sock"
PORT = 7000
VMM = "daemon"  # any user but root and "forwarder"
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
        """A VMM's, with a user and a folder of its own."""
        folder = f"/run/{self.name}"
        self.machine.run("install", "-d", "-o", VMM, folder)
        return self.machine.guest(f"{folder}/vm.sock", self.guest_path, VMM)

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
    machine.run("install", "-d", "-o", VMM, "/run/later")
    daemon = machine.daemon("/run/later/net.sock", user=VMM)
    service.expect_both_ways(service.accept(daemon))


@needs("root", "systemd", "plain-build")
def unix_service_listens_in_its_runtime_directory(case: Case):
    machine = Machine(case)
    path = "/run/forwarder/vm1/net.sock"
    service = start(machine, "forwarder@vm1", f"listen-unix:{path}")
    service.until_journal("service: started")
    service.expect_both_ways(service.call(socket.AF_UNIX, path))


def answer_lookups(tell: Callable, server: FakeGuest) -> None:
    """A name server in whose opinion every name means 127.0.0.1."""
    server.socket.settimeout(None)
    while True:
        question, client = server.socket.recvfrom(512)
        asks_ipv4 = question[question.index(0, 12) + 2] == 1
        end = question.index(0, 12) + 5
        answer = (question[:2] + struct.pack("!5H", 0x8180, 1, asks_ipv4, 0, 0)
                  + question[12:end])
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


def address_tap(machine: Machine) -> None:
    machine.run("ip", "address", "add", "192.0.2.1/24", "dev", "vm0")
    machine.run("ip", "neighbor", "replace", "192.0.2.2", "lladdr",
                OTHER_MAC.hex(":"), "dev", "vm0")


def expect_tap_answers(connection: Connection) -> None:
    """The device's own kernel answers a question from the network."""
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
        address_tap(machine)
        expect_tap_answers(service.accept(daemon))


def tap_number(machine: Machine) -> str:
    """Another one if the device was made again; "" if there is none."""
    return machine.ask("cat", "/sys/class/net/vm0/ifindex").stdout


@needs("root", "systemd", "plain-build", "tun")
def tap_device_of_a_service_is_kept_until_the_service_is_stopped(case: Case):
    """With its address. One that was deleted is made again and kept again."""
    machine = Machine(case)
    daemon = machine.daemon(NETWORK)
    unit = "forwarder-tap@vm1"
    service = start(machine, unit, f"unix:{NETWORK}",
                    ["guest.endpoint=tap:vm0"])
    connection = case.own(daemon.accept())
    for _ in range(2):
        number = tap_number(machine)
        address_tap(machine)
        expect_tap_answers(connection)
        for command in (["kill", "--signal=KILL"], ["restart"]):
            machine.systemctl(*command, unit)
            connection = case.own(daemon.accept())
            expect_tap_answers(connection)
            expect_equal("number", tap_number(machine), number)
        expect_equal("stored", machine.show(unit, "NFileDescriptorStore"), "1")

        machine.systemctl("kill", "--signal=STOP", unit)
        machine.run("ip", "link", "delete", "vm0")
        machine.systemctl("kill", "--signal=KILL", unit)
        connection = case.own(daemon.accept())
        expect(tap_number(machine) != number, "expected another device")
    expect_equal("refused", len([line for line in machine.journal(unit) if
                                 'reason="its TAP device was deleted"'
                                 in line]), 2)
    machine.systemctl("stop", unit)
    wait_until("links", lambda: "vm0" in machine.run("ip", "link"), False)


@needs("root", "systemd", "plain-build")
def socket_unit_starts_a_service_again_that_was_stopped(case: Case):
    """Stopping it removes the socket's file; the guest stays connected."""
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


# --- what the sandboxes refuse ------------------------------------------------

# Prints what it may do. Run as ExecStart= of a unit that is otherwise unchanged.
PROBE = r"""
import ctypes, json, mmap, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def works(attempt):  # False, and -1 of a system call, are failures
    try:
        answer = attempt()
    except OSError:
        return False
    return answer is not False and answer != -1

def is_known(family):
    for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW:
        try:
            socket.socket(family, kind).close()
        except OSError as error:
            if error.errno == 97:  # EAFNOSUPPORT
                continue
        return True

def connects(host):
    socket.create_connection((host, 7000), 0.5).close()

def make_set_user_id():
    path = os.environ.get("RUNTIME_DIRECTORY", "/tmp") + "/file"
    os.close(os.open(path, os.O_CREAT))
    os.chmod(path, 0o4755)

def opens_memory_of_another():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        name = f"/proc/{pid}/comm"
        if works(lambda: os.stat(name)) and open(name).read() == "forwarder\n":
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
            return
    raise OSError("no other process of this user is seen")

facts = dict(line.split()[:2] for line in open("/proc/self/status")
             if line.startswith(("Cap", "NoNew", "Uid")))
mounts = {line.split()[4] for line in open("/proc/self/mountinfo")}
attempts = {
    "memory to write and execute": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "other architecture": lambda: libc.personality(8),
    "set-user-ID file": make_set_user_id,
    "memory of another instance": opens_memory_of_another,
    "other processes": lambda: os.stat("/proc/1"),
    "TAP": lambda: os.close(os.open("/dev/net/tun", os.O_RDWR)),
    "/tmp": lambda: os.listdir("/tmp"),
    "/home": lambda: os.listdir("/home"),
    "user namespace": lambda: libc.unshare(0x10000000),  # last: it stays there
}
print(json.dumps({
    "capabilities": facts["CapBnd:"], "gains rights": facts["NoNewPrivs:"] == "0",
    "families": [family for family in range(1, 46) if is_known(family)],
    "writes": sorted(path for path in mounts if works(
        lambda: os.access(path, os.W_OK) and
        not os.statvfs(path).f_flag & os.ST_RDONLY)),
    "reaches": [host for host in ("127.0.0.1", "10.9.9.9", "203.0.113.9")
                if works(lambda: connects(host))],
    "can": sorted(name for name in attempts if works(attempts[name])),
}))
"""
PROBE_PATH = "/usr/local/bin/probe"
INSTEAD = f"""
[Service]
Type=exec
Restart=no
WatchdogSec=0
ExecStart=
ExecStart=/usr/bin/python3 {PROBE_PATH}
StandardOutput=journal
"""
NET_ADMIN = 1 << 12


def hosts(machine: Machine) -> None:
    """Of this machine's loopback, but with addresses of other networks."""
    for address in ("10.9.9.9", "203.0.113.9"):
        machine.run("ip", "address", "add", f"{address}/32", "dev", "lo")

    def listen() -> socket.socket:
        return socket.create_server(("0.0.0.0", PORT))
    machine.socket(listen)


def probe(machine: Machine, unit: str) -> dict:
    machine.write(f"/etc/systemd/system/{unit}.d/probe.conf", INSTEAD)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", unit)
    return json.loads(machine.until_journal(unit, "capabilities"))


@needs("root", "systemd", "plain-build", "tun")
def sandbox_holds(case: Case):
    machine = Machine(case)
    machine.write(PROBE_PATH, PROBE)
    hosts(machine)
    start(machine, "forwarder@other", f"unix:{NETWORK}")
    families = [int(family) for family in (
        socket.AF_UNIX, socket.AF_INET, socket.AF_INET6)]
    # The message queues are those of its own IPC namespace.
    unix = {"capabilities": f"{0:016x}", "gains rights": False,
            "families": families[:1], "reaches": [], "can": [],
            "writes": ["/dev/mqueue", "/run/forwarder/x"]}
    tcp = {**unix, "families": families, "reaches": ["127.0.0.1", "10.9.9.9"]}
    tap = {**tcp, "capabilities": f"{NET_ADMIN:016x}", "can": ["TAP"],
           "writes": ["/dev/mqueue", "/dev/net/tun", "/run/forwarder/x"]}
    daemon = {**unix, "families": sorted([*families, int(socket.AF_NETLINK)]),
              "reaches": ["127.0.0.1", "10.9.9.9", "203.0.113.9"],
              "can": ["user namespace"]}
    for kind, expected in (("", unix), ("-tcp", tcp), ("-tap", tap),
                           ("-exec", daemon)):
        expect_equal(kind, probe(machine, f"forwarder{kind}@x.service"),
                     expected)
    free = json.loads(machine.run("/usr/bin/python3", PROBE_PATH))
    expect_equal("what the probe finds elsewhere",
                 (len(free["can"]), len(free["reaches"]), free["gains rights"]),
                 (9, 3, True))
    expect(set(free["families"]) > set(families) and free["writes"],
           f"expected families and writable mounts, found {free}")


@needs("root", "systemd", "plain-build")
def endpoint_that_a_sandbox_refuses_is_logged_with_the_cure(case: Case):
    machine = Machine(case)
    machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    for number, (network, option, cure) in enumerate((
            ("tcp:127.0.0.1:7000", "", "forwarder-tcp@.service"),
            ("tcp:daemon.example:7000", "", "forwarder-tcp@.service"),
            ("listen-tcp:127.0.0.1:7000", "", "forwarder-tcp@.service"),
            ("listen-unix:/run/net.sock", "", "ReadWritePaths="),
            (f"unix:{NETWORK}", "guest.endpoint=tap:vm0",
             "forwarder-tap@.service"))):
        service = Service(machine, f"forwarder@vm{number}", network,
                          [option] if option else [])
        machine.systemctl("start", "--no-block", service.unit)
        service.until_journal(cure)
        machine.systemctl("stop", service.unit)


# What systemd-analyze security may find at most.
EXPOSURE = {"forwarder@": 0.5, "forwarder": 0.5, "forwarder-tcp@": 1.0,
            "forwarder-tap@": 1.4, "forwarder-exec@": 2.0}


@needs("systemd-analyze")
def units_are_no_more_exposed_than_promised(case: Case):
    for name, most in EXPOSURE.items():
        path = ROOT / f"service/systemd/{name}.service"
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager",
             path], capture_output=True, text=True, env={**os.environ,
                                                         "LC_ALL": "C.UTF-8"})
        found = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
        expect(found and float(found.group(1)) <= most,
               f"{name}: expected at most {most}, found {done.stdout[-80:]}")


@needs("root", "systemd", "plain-build")
def systemd_finds_no_fault_in_the_units(case: Case):
    machine = Machine(case)
    units = [f"{name}vm1.service" if name.endswith("@") else f"{name}.service"
             for name in EXPOSURE]
    expect_equal("faults", machine.run(
        "systemd-analyze", "verify", "--man=no", "forwarder@vm1.socket",
        *units), "")


def settings(name: str) -> set[str]:
    text = (ROOT / f"service/systemd/{name}.service").read_text()
    return {line for line in text.splitlines() if line and line[0] != "#"}


@needs()
def units_differ_only_where_they_have_to(case: Case):
    """forwarder@.service has the reasons for what they have in common."""
    base = settings("forwarder@")
    for name, keys in (
            ("forwarder", "Description ExecStart ExecReload RuntimeDirectory"
             " RuntimeDirectoryMode RuntimeDirectoryPreserve"),
            ("forwarder-tcp@", "After PrivateNetwork IPAddressAllow"
             " RestrictAddressFamilies"),
            ("forwarder-tap@", "After PrivateNetwork IPAddressAllow"
             " RestrictAddressFamilies PrivateUsers CapabilityBoundingSet"
             " AmbientCapabilities BindPaths DeviceAllow"),
            ("forwarder-exec@", "After PrivateNetwork IPAddressDeny"
             " RestrictAddressFamilies RestrictNamespaces SystemCallFilter")):
        found = {line.partition("=")[0] for line in base ^ settings(name)}
        expect_equal(name, found, set(keys.split()))


# --- many, and none -----------------------------------------------------------

def possessions(machine: Machine) -> list[str]:
    """Processes, folders and cgroups of services."""
    return machine.shell(
        "grep -lx forwarder /proc/[0-9]*/comm || :\n"
        "ls -d /run/forwarder/* /tmp/systemd-private-* 2>/dev/null || :\n"
        "find /sys/fs/cgroup -name 'forwarder@*'").splitlines()


def kib_of(machine: Machine, pid: str) -> int:
    """The process's share of memory."""
    text = machine.path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))


@needs("root", "systemd", "plain-build", limit=120)
def hundred_instances_start_and_a_stop_leaves_nothing(case: Case):
    machine = Machine(case)
    daemon = machine.daemon(NETWORK)
    case.own(Child(accept_all, daemon))
    units = [Service(machine, f"forwarder@vm{number}", f"unix:{NETWORK}").unit
             for number in range(100)]
    began = time.monotonic()
    machine.systemctl("start", *units)
    seconds = time.monotonic() - began
    pids = machine.systemctl("show", "--property=MainPID", "--value",
                             *units).split()
    kib = sum(kib_of(machine, pid) for pid in pids)
    print(f"    100 instances: started in {seconds:.1f} s,"
          f" {kib / 1024:.0f} MiB")
    wait_until("forwarders that are up", lambda: machine.run(
        "forwarder", "status", "--all").count(" up "), len(units))
    expect_equal("processes, folders and cgroups", len(possessions(machine)),
                 3 * len(units))
    machine.systemctl("stop", *units)
    expect_equal("left", possessions(machine), [])


def accept_all(tell: Callable, daemon: FakeDaemon) -> None:
    daemon.listener.settimeout(None)
    kept = []
    while True:
        kept.append(daemon.listener.accept())


# --- the other units ----------------------------------------------------------

@needs("root", "systemd", "plain-build")
def plain_service_has_the_default_guest_socket(case: Case):
    machine = Machine(case)
    machine.write("/etc/forwarder/forwarder.ini",
                  f"[network]\nendpoint = unix:{NETWORK}\n"
                  "[guest]\nmode = 0660\n")
    daemon = machine.daemon(NETWORK)
    machine.systemctl("start", "forwarder")
    connection = case.own(daemon.accept())
    machine.until_journal("forwarder", "link: up")
    guest = machine.guest("/run/vm.sock", "/run/forwarder/guest.sock")
    exchange(guest, connection, 1)


def add_route(machine: Machine) -> None:
    """To a gateway that does not exist: passt answers in its place."""
    machine.shell("ip link add eth0 type veth peer name eth1\n"
                  "ip address add 192.0.2.1/24 dev eth0\n"
                  "ip link set eth0 up\n"
                  "ip link set eth1 up\n"
                  "ip route add default via 192.0.2.254")


QUESTION = arp_question((MAC, "192.0.2.1"), "192.0.2.254")


def expect_answer(guest: FakeGuest) -> None:
    guest.send(QUESTION)
    expect(is_type(ARP, guest.next()), "expected an ARP answer")


ME, RUNTIME = "me", "/run/user/4711"


def user_systemctl(machine: Machine, *arguments: str) -> str:
    return machine.run(
        "setpriv", f"--reuid={ME}", f"--regid={ME}", "--init-groups", "env",
        f"XDG_RUNTIME_DIR={RUNTIME}", "systemctl", "--user", *arguments)


def user_machine(case: Case, network: str) -> Machine:
    """With a service manager of an ordinary user."""
    machine = Machine(case)
    machine.run("useradd", "--create-home", "--uid", "4711", ME)
    machine.run("install", "-d", "-m", "700", "-o", ME, RUNTIME)
    machine.run("systemd-run", "--quiet", f"--uid={ME}", "--property=Type=notify",
                "--property=Delegate=yes", f"--setenv=XDG_RUNTIME_DIR={RUNTIME}",
                "/lib/systemd/systemd", "--user")
    machine.write(
        f"/home/{ME}/.config/forwarder/vm1.ini",
        f"[guest]\nendpoint = unixgram:{RUNTIME}/forwarder/vm1/guest.sock\n"
        f"[network]\nendpoint = {network}\n")
    return machine


@needs("root", "systemd", "plain-build", "passt")
def exec_unit_of_a_user_starts_passt(case: Case):
    machine = user_machine(case, "exec:passt --foreground --fd {fd}")
    add_route(machine)
    user_systemctl(machine, "start", "forwarder-exec@vm1")
    expect_answer(machine.guest(
        f"{RUNTIME}/vm.sock", f"{RUNTIME}/forwarder/vm1/guest.sock", ME))
    user_systemctl(machine, "stop", "forwarder-exec@vm1")
    expect_equal("left", machine.ask("pgrep", "passt").stdout, "")


@needs("root", "systemd", "plain-build")
def user_units_work_without_root(case: Case):
    machine = user_machine(case, f"unix:{RUNTIME}/net.sock")
    folder = f"{RUNTIME}/forwarder/vm1"
    daemon = machine.daemon(f"{RUNTIME}/net.sock", user=ME)
    user_systemctl(machine, "start", "forwarder@vm1")
    connection = case.own(daemon.accept())
    guest = machine.guest(f"{RUNTIME}/vm.sock", f"{folder}/guest.sock", ME)
    exchange(guest, connection, 1)
    user_systemctl(machine, "stop", "forwarder@vm1")
    expect_equal("files", machine.run("ls", f"{RUNTIME}/forwarder"), "")
    user_systemctl(machine, "start", "forwarder@vm1.socket")
    guest = machine.guest(f"{RUNTIME}/vm2.sock", f"{folder}/guest.sock", ME)
    guest.send(2)
    case.own(daemon.accept()).expect(2)


def commands_of_readme() -> str:
    """The first example of "As a service", without sudo."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## As a service"):]
    lines = re.search(r"(?:^    .*\n)+", section, re.M).group().splitlines()
    return "\n".join(line[4:].removeprefix("sudo ") for line in lines)


@needs("root", "systemd", "plain-build", "passt")
def commands_of_the_readme_start_a_first_instance(case: Case):
    """passt answers the guest's ARP request."""
    machine = Machine(case)
    machine.run("userdel", "forwarder")
    add_route(machine)
    machine.shell(commands_of_readme())
    machine.until_journal("forwarder-exec@vm1", "link: up")
    expect_answer(
        machine.guest("/run/vm.sock", "/run/forwarder/vm1/guest.sock"))


@needs("root", "systemd", "plain-build", "passt")
def exec_service_starts_passt_and_keeps_the_guest_over_restarts(case: Case):
    """passt answers the guest's ARP requests. It is killed, the forwarder is
    killed, and the service is restarted."""
    machine = Machine(case)
    add_route(machine)
    service = start(machine, "forwarder-exec@vm1",
                    "exec:passt --foreground --fd {fd}")
    guest = service.guest()

    def passts() -> list[str]:
        return machine.ask("pgrep", "passt").stdout.split()

    expect_answer(guest)
    for end in ("pkill -KILL passt", "pkill -KILL -x forwarder",
                f"systemctl restart {service.unit}"):
        before = passts()
        machine.run(*end.split())
        wait_until("another passt", passts, lambda found: len(found) == 1
                   and found != before)
        expect_answer(guest)
    machine.systemctl("stop", service.unit)
    expect_equal("left", passts(), [])


# --- launchd ------------------------------------------------------------------

@needs()
def launchd_files_are_complete_and_name_the_guests_socket(case: Case):
    """What can be checked without macOS."""
    header = (ROOT / "base/service.h").read_text()
    name = re.search(r'SERVICE_GUEST "(\w+)"', header).group(1)
    for path in sorted((ROOT / "service/launchd").glob("*.plist")):
        found = plistlib.loads(path.read_bytes())
        expect_equal(f"label of {path.name}", found["Label"], path.stem)
        expect_equal("KeepAlive", found["KeepAlive"], True)
        expect_equal("ProcessType", found["ProcessType"], "Interactive")
        line = found["ProgramArguments"]
        end = line.index("--") if "--" in line else len(line)
        for command in filter(None, (line[:end], line[end + 1:])):
            done = run_forwarder("--check", *(
                word.replace("{fd}", "5") for word in command[1:]))
            expect_equal(done.stderr, done.returncode, 0)
        sockets = {f"unixgram:{one['SockPathName']}"
                   for one in found.get("Sockets", {}).values()}
        expect_equal("Sockets", list(found.get("Sockets", {})),
                     [name] if sockets else [])
        expect(sockets <= set(line), f"{path.name}: expected the guest's path")
