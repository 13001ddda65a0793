"""A host that is suspended to memory and wakes up: a real Linux in QEMU, with two
forwarders in it. Its real-time clock wakes it; in QEMU 7.2 that works once."""

from __future__ import annotations

from harness import FORWARDER, Case, expect, needs
from vm import Guest, initrd_with

INTERVAL = 8
SUSPEND = ("echo +2 >/sys/class/rtc/rtc0/wakealarm && echo mem >/sys/power/state"
           " && cat /proc/uptime")


class Host:
    """Its forwarders are near and far, joined by TCP."""

    def __init__(self, case: Case) -> None:
        self.guest = case.own(Guest(
            case.folder, "hubport,id=n0,hubid=0", "192.0.2.2/24",
            initrd=initrd_with(case.folder, FORWARDER)))

    def start(self, name: str, network: str, interval: str) -> None:
        self.guest.run(
            f"forwarder -g unixgram:/tmp/{name} -n {network}"
            f" -o keepalive.mode=peer -o keepalive.interval={interval}"
            f" -o control.socket=/tmp/{name}.control 2>/tmp/{name}.log"
            f" & echo $! >/tmp/{name}.pid")

    def until(self, condition: str) -> float:
        """Returns the host's uptime."""
        return float(self.guest.run(
            f"until {condition}; do usleep 20000; done; cat /proc/uptime",
            2 * INTERVAL).split()[-2])


@needs("busybox", "guest", "plain-build")
def peer_that_is_gone_after_a_suspend_is_dialled_again(case: Case):
    """The resume itself wakes the forwarder, not its next tick."""
    host = Host(case)
    host.start("far", "listen-tcp:127.0.0.1:7000", "1h")
    host.start("near", "tcp:127.0.0.1:7000", f"{INTERVAL}s")
    host.until("forwarder status --json /tmp/near.control |"
               " grep -q '\"armed\":true'")
    host.guest.run("kill -STOP $(cat /tmp/far.pid)")
    resumed = float(host.guest.run(SUSPEND).split()[0])
    found = host.until("grep -q 'lost reason=.no response within a second"
                       " of a suspend' /tmp/near.log")
    expect(0.9 < found - resumed < INTERVAL / 2,
           f"expected a second, found {found - resumed:.2f} s")
    host.until("grep -q 'link: up .*generation=2' /tmp/near.log")
