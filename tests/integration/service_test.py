"""The forwarder as a service of systemd: what systemd is told, and what a guest
notices of a restart."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Callable

from daemons import Iperf3Server, L2Daemon
from forwarder import Forwarder
from harness import (FORWARDER, Case, Process, above, expect, expect_equal,
                     needs, wait_for, wait_until)
from peers import (Child, Connection, Deframer, FakeDaemon, FakeGuest,
                   bound_guest, frame, number_of)
from systemd import Machine
from vm import Guest

UNIT = "forwarder@vm1.service"
SOCKET_UNIT = "forwarder@vm1.socket"
FOLDER = "/run/forwarder/vm1"
GUEST = f"{FOLDER}/guest.sock"
NET = "/run/net.sock"


class Service:
    """A machine with one forwarder, which is not started yet."""

    def __init__(self, case: Case, unit_settings: str = "") -> None:
        self.machine = Machine(case)
        self.settings = {"guest.endpoint": f"unixgram:{GUEST}",
                         "guest.mode": "0660",
                         "network.endpoint": f"unix:{NET}"}
        self.configure()
        if unit_settings:
            self.machine.write(
                "/etc/systemd/system/forwarder@.service.d/test.conf",
                f"[Service]\n{unit_settings}\n")
            self.machine.systemctl("daemon-reload")

    def configure(self, *options: str) -> None:
        self.settings.update(option.split("=", 1) for option in options)
        text = ""
        for name, value in self.settings.items():
            section, _, key = name.partition(".")
            text += f"[{section}]\n{key} = {value}\n"
        self.machine.write("/etc/forwarder/vm1.ini", text)

    def start(self, unit: str = UNIT) -> None:
        self.machine.systemctl("start", unit)

    def show(self, name: str) -> str:
        return self.machine.show(UNIT, name)

    def until_status(self, *words: str) -> None:
        wait_until("status text", lambda: self.show("StatusText"),
                   lambda text: all(word in text for word in words))

    @property
    def pid(self) -> int:
        return self.machine.pid_of(UNIT)

    def guest(self, name: str = "vm.sock") -> FakeGuest:
        return self.machine.guest(f"{FOLDER}/{name}", GUEST)

    def until_dead(self, pid: int) -> None:
        """A killed process may receive one more batch, which is lost then."""
        wait_for("the process to end", lambda: self.pid != pid)

    def until_restarted(self, pid: int) -> None:
        wait_for("another process",
                 lambda: self.show("SubState") == "running"
                 and self.pid not in (0, pid))


def meet(case: Case, daemon: FakeDaemon) -> Connection:
    """The forwarder's connection, proven by a frame from the network."""
    connection = case.own(daemon.accept())
    connection.send(0)
    return connection


# --- what is inherited, without systemd ----------------------------------------

# Passes descriptors on as systemd does. Arguments: their names, their numbers,
# then the program.
LISTEN = """
import os, sys
names, numbers, *program = sys.argv[1:]
copies = [os.dup2(int(number), 100 + i)
          for i, number in enumerate(numbers.split(","))]
os.closerange(3, 100)
for i, copy in enumerate(copies):
    os.dup2(copy, 3 + i)
    os.close(copy)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(copies)),
                  LISTEN_FDNAMES=names)
os.execv(program[0], program)
"""


def passed_on(named: list[tuple[str, socket.socket]]) -> dict:
    """The arguments of a Forwarder that inherits these sockets."""
    numbers = [one.fileno() for _, one in named]
    return {"pass_fds": numbers,
            "before": [sys.executable, "-c", LISTEN,
                       ":".join(name for name, _ in named),
                       ",".join(map(str, numbers))]}


@needs()
def only_the_inherited_socket_that_fits_is_used(case: Case):
    def bound(name: str, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        one = case.own(socket.socket(socket.AF_UNIX, kind))
        one.bind(str(case.path(name)))
        return one
    sockets = [("guest", bound("other.sock")),
               ("guest", bound("stream.sock", socket.SOCK_STREAM)),
               ("", bound("unnamed.sock")),
               ("guest", bound("guest.sock"))]
    guest = case.own(bound_guest(case.path("vm.sock")))
    guest.socket.connect(str(case.path("guest.sock")))
    guest.send(1, 2)
    daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
    forwarder = Forwarder(case, daemon.endpoint,
                          f"unixgram:{case.path('guest.sock')}",
                          **passed_on(sockets))
    forwarder.until_lines("warn service: inherited descriptor closed", 3)
    for number, reason in enumerate(
            ('name=guest reason="not bound to the path of the guest endpoint"',
             'name=guest reason="not a Unix datagram socket"',
             'name="" reason="its name is not guest"'), 3):
        expect(f"fd={number} {reason}" in forwarder.log_text(),
               f"expected {reason}")
    links = [os.readlink(link) for link in
             Path(f"/proc/{forwarder.pid}/fd").iterdir()]
    expect_equal("open", [f"socket:[{os.fstat(one.fileno()).st_ino}]" in links
                          for _, one in sockets], [False] * 3 + [True])
    connection = case.own(daemon.accept())
    connection.expect(1, 2)
    connection.send(3)
    guest.expect(3)
    expect_equal("exit status", forwarder.process.terminate(), 0)
    expect(case.path("guest.sock").exists(), "expected the file to stay")


@needs()
def command_inherits_nothing_from_the_service_manager(case: Case):
    manager = case.own(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    manager.bind(str(case.path("notify")))
    ends = [case.own(end) for end in
            socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)]
    passed = passed_on([("guest", end) for end in ends])
    log = case.path("command.log")
    process = case.own(Process(
        [*passed["before"], FORWARDER, "-n", f"unix:{case.path('net.sock')}",
         "--", "sh", "-c", "env; ls -l /proc/self/fd; # {fd}"], log,
        pass_fds=passed["pass_fds"],
        env={"NOTIFY_SOCKET": str(case.path("notify")),
             "WATCHDOG_USEC": "1000000", "PATH": os.environ["PATH"]}))
    expect_equal("exit status", process.wait(), 0)
    text = log.read_text()
    for name in ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_"):
        expect(f"\n{name}" not in text, f"expected no {name} in: {text}")
    expect_equal("closed", text.count('reason="the guest is the command"'), 2)
    expect_equal("sockets of the command", text.count("socket:["), 1)
    told = []
    while select.select([manager], [], [], 0)[0]:
        told.append(manager.recv(1000).decode().partition("\n")[0])
    expect("READY=1" in told and told[-1] == "STOPPING=1",
           f"expected READY and STOPPING, found {told}")
    expect("FDSTORE=1" not in told, f"expected nothing stored, found {told}")


# --- what systemd is told ------------------------------------------------------

@needs("systemd", "root")
def service_is_ready_without_a_daemon_and_its_status_follows_the_link(
        case: Case):
    service = Service(case)
    service.start()
    service.until_status("down since 20", "last error: No such file")
    daemon = service.machine.daemon(NET)
    service.until_status("up generation=1 endpoint=unix:" + NET)
    connection = meet(case, daemon)
    connection.close()
    daemon.stop()
    service.until_status("down since 20")
    expect("Status: \"down since 20" in service.machine.systemctl(
        "status", UNIT), "expected the status in systemctl status")
    lost = service.machine.run(
        "journalctl", "--quiet", "--output=cat", "--priority=warning",
        f"--unit={UNIT}")
    expect("warn link: lost" in lost, f"expected a warning, found: {lost}")
    expect("info " not in lost, f"expected only warnings, found: {lost}")
    expect_equal("restarts", service.show("NRestarts"), "0")


@needs("systemd", "root")
def reload_of_a_service_is_confirmed_and_a_wrong_file_is_refused(case: Case):
    service = Service(case)
    daemon = service.machine.daemon(NET)
    service.start()
    pid = service.pid
    meet(case, daemon)
    service.until_status("up generation=1")
    service.configure("network.hold=5s")
    service.machine.systemctl("reload", UNIT)
    service.machine.until_journal(UNIT, "info config: read again")

    service.configure("network.hold=no")
    done = service.machine.ask("systemctl", "reload", UNIT)
    expect(done.returncode != 0, "expected the reload to fail")
    expect_equal("state", service.show("ActiveState"), "active")
    service.machine.systemctl("kill", "--signal=HUP", UNIT)
    service.until_status("up generation=1", "the last reload was refused:",
                         "[network] hold")
    expect_equal("state", service.show("ActiveState"), "active")
    service.configure("network.hold=1s")
    service.machine.systemctl("reload", UNIT)
    wait_until("status", lambda: service.show("StatusText"),
               f"up generation=1 endpoint=unix:{NET}")
    expect_equal("process", service.pid, pid)


# --- the watchdog --------------------------------------------------------------

# Stops one thread as a debugger does, until the process is killed.
FREEZE = """
import ctypes, os, sys
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
thread = int(sys.argv[1])
libc = ctypes.CDLL(None)
for request in SEIZE, INTERRUPT:
    assert libc.ptrace(request, thread, None, None) == 0
while True:
    _, status = os.waitpid(thread, WALL)
    if not os.WIFSTOPPED(status):
        break
    print("stopped", flush=True)
"""


def freeze(case: Case, service: Service, name: str) -> None:
    tasks = service.machine.path(f"/proc/{service.pid}/task")
    thread = next(task.name for task in tasks.iterdir()
                  if (task / "comm").read_text() == name + "\n")
    log = case.path(f"freeze-{name}.log")
    case.own(Process(service.machine.enter(
        sys.executable, "-c", FREEZE, thread), log))
    wait_for(f"{name} to be stopped", lambda: "stopped" in log.read_text())


@needs("systemd", "root", "trace")
def watchdog_ends_a_forwarder_with_a_frozen_thread(case: Case):
    service = Service(case, "WatchdogSec=1s")
    daemon = service.machine.daemon(NET)
    service.start()
    guest = case.own(service.guest())
    connection = meet(case, daemon)
    guest.send(1)
    connection.expect(1)
    events: dict[str, Callable] = {
        "fwd-up": lambda: guest.send(2),
        "fwd-down": lambda: connection.send(2),
        "fwd-link": lambda: connection.close(),
    }
    for restarts, (name, event) in enumerate(events.items(), 1):
        pid = service.pid
        freeze(case, service, name)
        event()
        service.machine.until_journal(
            UNIT, "a thread makes no progress", f"thread={name}")
        service.until_restarted(pid)
        expect_equal("restarts", service.show("NRestarts"), str(restarts))
        guest.drain()
        connection = meet(case, daemon)
        guest.send(3)
        while number_of(connection.next()) != 3:
            pass


def until_fed(service: Service, seconds: float) -> None:
    """Until the watchdog has been fed for so long."""
    def fed() -> int:
        return int(service.show("WatchdogTimestampMonotonic"))
    wait_until("watchdog fed at", fed, above(fed() + seconds * 1e6))


def fill(guest: FakeGuest) -> None:
    """Sends until the guest would have to wait for 0.2 s."""
    while select.select([], [guest.socket], [], 0.2)[1]:
        guest.send(1)


@needs("systemd", "root")
def watchdog_is_patient_in_an_outage_and_while_a_write_blocks(case: Case):
    service = Service(case, "WatchdogSec=600ms")
    service.configure("network.hold=forever")
    service.start()
    pid = service.pid
    guest = case.own(service.guest())
    fill(guest)
    until_fed(service, 1.5)
    daemon = service.machine.daemon(NET)
    connection = meet(case, daemon)
    fill(guest)  # it doesn't read
    until_fed(service, 1.5)
    connection.send(*range(2000))  # nor does the guest
    until_fed(service, 1.5)
    expect_equal("process", service.pid, pid)
    expect_equal("lines", [line for line in service.machine.journal(UNIT)
                           if "no progress" in line], [])


# --- the guest's socket outlives the forwarder ---------------------------------

RATE = 1000  # frames a second
ALLOWED = RATE * 0.05
# Of the guest and the forwarder. Otherwise a busy machine makes them wait, and a
# killed thread receives all that has come until it can end.
PRIORITY = 1


def send_numbered(tell: Callable, guest: socket.socket) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    started = time.monotonic()
    number = 0
    while True:
        number += 1
        time.sleep(max(0, started + number / RATE - time.monotonic()))
        try:
            guest.send(frame(number))
        except OSError as error:
            tell(f"{number}: {error}\n".encode())


def receive_numbered(tell: Callable, listener: socket.socket) -> None:
    """Reads each connection to its end before the next one."""
    while True:
        connection, _ = listener.accept()
        deframer = Deframer()
        try:
            while data := connection.recv(262144):
                for one in map(number_of, filter(
                        lambda one: len(one) == 60
                        and one[12:14] == b"\x08\x00", deframer.feed(data))):
                    tell(struct.pack("=I", one))
        except ConnectionResetError:
            pass


class Traffic:
    """Numbered frames from a guest through the forwarder to a daemon."""

    def __init__(self, case: Case, service: Service) -> None:
        daemon = service.machine.daemon(NET)
        daemon.listener.setblocking(True)
        self.receiver = case.own(Child(receive_numbered, daemon.listener))
        self.guest = case.own(service.guest())
        self.sender = case.own(Child(send_numbered, self.guest.socket))
        self.until_more()

    def numbers(self) -> list[int]:
        heard = self.receiver.hear()
        return [number for number, in struct.iter_unpack(
            "=I", heard[:len(heard) // 4 * 4])]

    def until_more(self) -> int:
        """Waits for frames sent from now on. Returns how many there are."""
        before = len(self.numbers())
        return wait_until("frames", lambda: len(self.numbers()),
                          above(before + RATE // 10))

    def worst_gap(self, start: int, end: int) -> int:
        found = self.numbers()[start - 1:end]
        for one, other in zip(found, found[1:]):
            expect(one < other, f"expected order, found {other} after {one}")
        gaps = [other - one - 1 for one, other in zip(found, found[1:])]
        return max(gaps)


def survive_restarts(case: Case, unit: str) -> None:
    service = Service(case, "CPUSchedulingPolicy=fifo\n"
                      f"CPUSchedulingPriority={PRIORITY}")
    service.start(unit)
    traffic = Traffic(case, service)
    marks = [traffic.until_more()]
    for _ in range(10):
        pid = service.pid
        service.machine.systemctl("kill", "--signal=KILL", UNIT)
        service.until_restarted(pid)
        marks.append(traffic.until_more())
    for _ in range(10):
        service.machine.systemctl("restart", UNIT)
        marks.append(traffic.until_more())
    replace_program(service.machine)
    service.machine.systemctl("restart", UNIT)
    exe = os.readlink(service.machine.path(f"/proc/{service.pid}/exe"))
    expect("deleted" not in exe, f"expected the new program, found {exe}")
    marks.append(traffic.until_more())
    expect_equal("failures of the guest's socket",
                 traffic.sender.hear().decode(), "")
    killed = traffic.worst_gap(marks[0], marks[10])
    restarted = traffic.worst_gap(marks[10], marks[-1])
    print(f"        frames lost at most: {killed} by SIGKILL,"
          f" {restarted} by a restart", flush=True)
    expect(max(killed, restarted) < ALLOWED,
           f"expected fewer than {ALLOWED:.0f} frames lost")
    expect_equal("frames lost by a restart", restarted, 0)


def replace_program(machine: Machine) -> None:
    """As a package does: a new file takes the name."""
    machine.shell("cd /usr/local/bin && cp forwarder new &&"
                  " echo >>new && mv new forwarder")


@needs("systemd", "root")
def guest_in_the_descriptor_store_survives_kills_and_restarts(case: Case):
    survive_restarts(case, UNIT)


@needs("systemd", "root")
def guest_of_a_socket_unit_survives_kills_and_restarts(case: Case):
    survive_restarts(case, SOCKET_UNIT)


@needs("systemd", "root")
def socket_whose_file_was_removed_and_its_successor_are_both_stored(
        case: Case):
    service = Service(case)
    daemon = service.machine.daemon(NET)
    service.start()
    guest = case.own(service.guest())
    connection = meet(case, daemon)
    guest.send(1)
    connection.expect(1)
    expect_equal("stored", service.show("NFileDescriptorStore"), "1")
    service.machine.path(GUEST).unlink()
    service.machine.until_journal(UNIT, "socket file was removed; bound again")
    wait_until("stored", lambda: service.show("NFileDescriptorStore"), "2")

    service.machine.systemctl("restart", UNIT)
    connection = meet(case, daemon)
    guest.send(2)
    connection.expect(2)
    next_guest = case.own(service.guest("next.sock"))
    next_guest.send(3)
    connection.expect(3)
    wait_until("stored", lambda: service.show("NFileDescriptorStore"), "1")


# As a VMM that starts the forwarder itself: gives the test its own end of a new
# pair each time.
LAUNCH = """
import os, socket
ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
with socket.socket(socket.AF_UNIX) as test:
    test.connect("/run/launcher")
    socket.send_fds(test, [b"guest"], [ours.fileno()])
its.set_inheritable(True)
ours.close()
os.execv("/usr/local/bin/forwarder", ["forwarder", "-g", f"fd:{its.fileno()}",
                                      "-n", "unix:/run/net.sock"])
"""


def listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    return listener


def launched_guest(case: Case, launcher: socket.socket) -> FakeGuest:
    with launcher.accept()[0] as connection:
        _, (end,), _, _ = socket.recv_fds(connection, 10, 1)
    return case.own(FakeGuest(socket.socket(fileno=end)))


@needs("systemd", "root")
def guest_given_as_a_descriptor_is_kept_until_it_is_gone(case: Case):
    service = Service(case)
    machine = service.machine
    machine.write("/run/launch", LAUNCH)
    machine.write("/etc/systemd/system/" + UNIT, f"""[Service]
Type=notify
ExecStart={sys.executable} /run/launch
Restart=always
RestartSec=100ms
FileDescriptorStoreMax=2
""")
    launcher = machine.socket(lambda: listening("/run/launcher"))
    daemon = machine.daemon(NET)
    service.start()
    guest = launched_guest(case, launcher)
    connection = meet(case, daemon)
    guest.send(1)
    connection.expect(1)
    for number, command in enumerate((["kill", "--signal=KILL"], ["restart"]),
                                     2):
        pid = service.pid
        machine.systemctl(*command, UNIT)
        service.until_dead(pid)
        guest.send(number)
        service.until_restarted(pid)
        launched_guest(case, launcher)  # isn't used
        connection = meet(case, daemon)
        connection.expect(number)
    expect_equal("stored", service.show("NFileDescriptorStore"), "1")

    pid = service.pid
    guest.close()
    try:
        while True:
            connection.send(1)
    except OSError:
        service.until_restarted(pid)
    guest = launched_guest(case, launcher)
    guest.send(4)
    case.own(daemon.accept()).expect(4)


class Hub(L2Daemon):
    """On a listening socket that was made in the machine."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        super().__init__(folder)
        self.fd = listener.fileno()

    def start(self) -> None:
        self.process = Process(self.namespace.enter(*self.command()), self.log,
                               pass_fds=[self.fd])
        self.namespace.ip("link set tap0 up")

    def received(self) -> int:
        """Bytes from the guest so far."""
        tap, = json.loads(self.namespace.ip("-statistics -json link show tap0"))
        return tap["stats64"]["tx"]["bytes"] + tap["stats64"]["rx"]["bytes"]

    def command(self) -> list:
        return [argument.replace(f"type=unix,addr.path={self.socket}",
                                 f"type=fd,addr.str={self.fd}")
                for argument in super().command()]


def tcp_session_survives_restarts(case: Case, unit: str) -> None:
    service = Service(case)
    service.configure("guest.stall=1s")
    hub = case.own(Hub(case.folder, service.machine.daemon(NET).listener))
    hub.start()
    server = case.own(Iperf3Server(case.folder, hub.namespace, hub.ADDRESS))
    service.start(unit)
    end = service.guest().socket.fileno()
    guest = case.own(Guest(
        case.folder, f"dgram,id=n0,local.type=fd,local.str={end}",
        hub.GUEST_ADDRESS, pass_fds=[end]))
    session = guest.start(f"iperf3 --client {hub.ADDRESS} --time 600")
    wait_for("a session to begin",
             lambda: "connected to" in server.log.read_text(), 20)
    for number in range(20):
        pid = service.pid
        if number % 2:
            service.machine.systemctl("restart", UNIT)
        else:
            service.machine.systemctl("kill", "--signal=KILL", UNIT)
        service.until_restarted(pid)
        wait_until("bytes", hub.received, above(hub.received() + 1e6))
    expect(session.alive(), "expected the session to go on")


@needs("systemd", "root", "guest", "tun", "iperf3", limit=90)
def virtual_machines_tcp_session_in_the_descriptor_store_survives(case: Case):
    tcp_session_survives_restarts(case, UNIT)


@needs("systemd", "root", "guest", "tun", "iperf3", limit=90)
def virtual_machines_tcp_session_of_a_socket_unit_survives(case: Case):
    tcp_session_survives_restarts(case, SOCKET_UNIT)
