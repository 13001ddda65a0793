"""The units that an operator installs, in a real systemd."""

from __future__ import annotations

from harness import Case, expect_equal, needs
from peers import exchange
from systemd import Machine

FOLDER = "/run/forwarder/vm1"
CONFIG = f"""
[guest]
endpoint = unixgram:{FOLDER}/guest.sock
mode = 0660
[network]
endpoint = unix:/run/net.sock
[control]
socket = {FOLDER}/control.sock
"""


@needs("root", "systemd", "plain-build")
def service_passes_frames_and_removes_its_sockets(case: Case):
    machine = Machine(case)
    machine.write("/etc/forwarder/vm1.ini", CONFIG)
    daemon = machine.daemon("/run/net.sock")
    machine.systemctl("start", "forwarder@vm1")
    connection = case.own(daemon.accept())
    machine.until_journal("forwarder@vm1", "link: up")
    guest = machine.guest("/run/vm.sock", f"{FOLDER}/guest.sock")
    exchange(guest, connection, 1)
    machine.systemctl("stop", "forwarder@vm1")
    expect_equal("files", machine.run("ls", FOLDER), "")
