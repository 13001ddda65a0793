"""The Debian package: installed, upgraded under traffic, removed and purged in a
machine of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Callable

from harness import (NEEDS, ROOT, Case, Failure, expect, expect_equal,
                     lacks_program, needs, wait_for)
from peers import Child, FakeDaemon, flood, is_announcement, number_of
from systemd import PREFIX, Machine

NEEDS["debhelper"] = lacks_program("dh", "debhelper")

OLD, NEW = "0.0.1", "0.0.2"
RATE = 1000
LOST_SECONDS = 0.05
# The user stays, as Debian's policy recommends.
ACCOUNTS = {f"/etc/{name}{old}" for name in
            ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}
DPKG = "/var/lib/dpkg/"


def build(case: Case, version: str) -> Path:
    done = subprocess.run(
        ["make", "-s", "-C", ROOT, "deb", f"VERSION={version}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    expect(done.returncode == 0, f"make deb: {done.stdout}")
    built, = ROOT.glob(f"build/forwarder_{version}_*.deb")
    return Path(shutil.move(built, case.folder))


def without_forwarder(case: Case) -> Machine:
    machine = Machine(case)
    machine.shell(f"""
        rm -r {PREFIX}/lib/systemd {PREFIX}/bin/forwarder /etc/forwarder
        rm -f /usr/sbin/policy-rc.d  # containers start nothing
        userdel forwarder
        systemctl daemon-reload""")
    return machine


def files(machine: Machine) -> set[str]:
    """Every file, and what those in /etc hold. Not dpkg's own notes, nor
    caches such as man-db's, which any package with a manual page fills."""
    lines = machine.shell(
        "find /usr /opt -xdev;"
        "find /etc /var -xdev -path /var/cache -prune -o"
        " -printf '%p %y %m %u %g %l\\n';"
        "find /etc -xdev -type f -exec md5sum {} +").splitlines()
    return {line for line in lines if not ACCOUNTS & set(line.split())
            and (DPKG not in line or f"{DPKG}info/" in line)}


class Guest:
    """A guest that sends numbered frames through an instance, and the daemon
    that receives them."""

    def __init__(self, case: Case, machine: Machine, name: str,
                 unit: str) -> None:
        self.name = name
        self.unit = f"forwarder@{name}.service"
        folder = f"/run/forwarder/{name}"
        machine.write(f"/etc/forwarder/{name}.ini",
                      f"[guest]\nendpoint = unixgram:{folder}/guest.sock\n"
                      f"[network]\nendpoint = unix:/run/{name}.net\n"
                      f"[control]\nsocket = {folder}/control.sock\n")
        daemon = machine.daemon(f"/run/{name}.net")
        self.received = case.own(Child(collect, daemon))
        machine.systemctl("enable", "--now", f"forwarder@{name}.{unit}")
        guest = machine.guest(f"/run/{name}.vm", f"{folder}/guest.sock")
        case.own(Child(flood, guest, RATE, [60]))
        self.until_received(RATE // 2)

    def until_received(self, frames: int) -> None:
        goal = self.received.hear().count(b"\n") + frames
        wait_for(f"frames of {self.name}",
                 lambda: self.received.hear().count(b"\n") >= goal, 30)

    def expect_at_most_lost(self, limit: int) -> None:
        whole = self.received.hear().rpartition(b"\n")[0]
        found = [int(number) for number in whole.split()]
        expect(found == sorted(set(found)), "expected frames in order, once")
        lost = found[-1] - len(found)
        expect(lost <= limit, f"{self.name}: expected at most {limit} lost"
                              f" frames of {found[-1]}, found {lost}")


def collect(tell: Callable, daemon: FakeDaemon) -> None:
    """Reports the numbers of frames, over any number of connections."""
    while True:
        try:
            connection = daemon.accept()
            while True:
                tell(b"".join(b"%d\n" % number_of(one)
                              for one in connection.read()
                              if not is_announcement(one)))
        except (Failure, ConnectionError):
            pass


@needs("root", "systemd", "debhelper", "plain-build", limit=300)
def upgrade_cuts_off_no_guest_and_purge_leaves_only_your_files(case: Case):
    old, new = build(case, OLD), build(case, NEW)
    machine = without_forwarder(case)
    before = files(machine)

    machine.run("dpkg", "--install", old)
    expect_equal("loaded units", machine.systemctl(
        "list-units", "--all", "--no-legend", "forwarder*"), "")
    # One keeps its guest in systemd's descriptor store, one has it from its
    # socket unit.
    guests = [Guest(case, machine, "stored", "service"),
              Guest(case, machine, "activated", "socket")]
    pids = [machine.pid_of(guest.unit) for guest in guests]

    machine.run("dpkg", "--install", new)
    for guest, pid in zip(guests, pids):
        expect(machine.pid_of(guest.unit) not in (pid, 0),
               f"expected {guest.unit} to be restarted")
        expect(NEW in machine.run(
            "forwarder", "status", f"/run/forwarder/{guest.name}/control.sock"),
            f"expected {guest.unit} to run the new version")
        guest.until_received(RATE)
        guest.expect_at_most_lost(int(RATE * LOST_SECONDS))

    machine.run("dpkg", "--remove", "forwarder")
    expect_equal("running units", machine.systemctl(
        "list-units", "--no-legend", "forwarder*"), "")
    machine.run("dpkg", "--purge", "forwarder")
    left = {word for line in files(machine) ^ before
            for word in line.split() if word.startswith("/")}
    expect_equal("what is left", left, {
        "/etc/forwarder", "/etc/forwarder/stored.ini",
        "/etc/forwarder/activated.ini"})
    expect(not machine.path("/run/forwarder").exists(),
           "expected /run/forwarder to be gone")
    machine.run("id", "forwarder")
