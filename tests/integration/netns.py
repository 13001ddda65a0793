"""Two hosts and what lies between them, each a network namespace: a switch
whose ports can be cut."""

from __future__ import annotations

import subprocess

from harness import NEEDS, Namespace, expect, lacks_program

PORT = 7000

NEEDS["busybox"] = lacks_program("busybox", "busybox-static")


class Room(Namespace):
    """A namespace in the same user namespace as another one, so that a cable
    can be laid between the two without root."""

    def __init__(self, beside: Namespace) -> None:
        self._holder = subprocess.Popen(
            beside.enter("unshare", "--net", "sh", "-c",
                         "echo ready && exec cat"),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True)
        expect(self._holder.stdout.readline() == "ready\n",
               "expected a network namespace")


class Host(Room):
    """A namespace with an address, plugged into a switch."""

    def __init__(self, switch: Switch, number: int) -> None:
        super().__init__(switch)
        self.address = f"198.51.100.{number}"
        self.port = f"port{number}"  # of the switch
        switch.ip(f"link add {self.port} type veth peer name eth0"
                  f" netns {self.pid}")
        switch.ip(f"link set {self.port} master bridge0 up")
        self.ip("link set lo up")
        self.ip(f"address add {self.address}/24 dev eth0")
        self.ip("link set eth0 up")


class Switch(Namespace):
    """Frames go through a bridge, so that a host cannot see that the other's
    cable is unplugged."""

    def __init__(self) -> None:
        super().__init__()
        try:
            self.ip("link add bridge0 type bridge")
            self.ip("link set bridge0 up")
        except BaseException:
            self.close()
            raise

    def cut(self, host: Host) -> None:
        self.ip(f"link set {host.port} down")

    def mend(self, host: Host) -> None:
        self.ip(f"link set {host.port} up")
