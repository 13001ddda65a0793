"""Daemons that take datagrams are killed and frozen under numbered frames in
both directions."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from signal import SIGSTOP
from typing import Callable

from daemons import (DatagramDaemon, Record, act_as_gvproxy,
                     act_as_vmnet_helper)
from harness import (Case, expect, expect_equal, needs, wait_for, wait_until)
from peers import Child, FakeGuest, WithGuest, frame, number_of

RATE = 2000
KILLS = 10
FREEZES = 3
# A process that is killed may have received a frame and not recorded it.
UNRECORDED = 1
# What a Unix socket's default buffer holds of small frames, and some more.
BUFFER_FRAMES = 300


def queue_frames() -> int:
    """What the queue of a socket that isn't connected holds."""
    return 1 + int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())


def send_numbered(tell: Callable, guest: FakeGuest, record: Record) -> None:
    guest.socket.settimeout(None)
    due = time.monotonic()
    while True:
        record.tried += 1
        guest.socket.send(frame(record.tried, 60 + record.tried % 1400))
        record.sent += 1
        due = max(due + 1 / RATE, time.monotonic() - 0.01)
        time.sleep(max(0.0, due - time.monotonic()))


def receive_numbered(tell: Callable, guest: FakeGuest, record: Record) -> None:
    guest.socket.settimeout(None)
    while True:
        record.receive(number_of(guest.socket.recv(131072)))


def expect_order(what: str, numbers: list[int]) -> None:
    expect(all(a < b for a, b in zip(numbers, numbers[1:])),
           f"{what}: expected rising numbers")


class Traffic:
    """A guest and a daemon that send to each other."""

    def __init__(self, case: Case, act: Callable, inside: int) -> None:
        self.inside = inside  # frames that a dead daemon may have in it
        self.daemon = case.own(DatagramDaemon(
            case.path("net.sock"), act, RATE))
        self.bridge = WithGuest(
            case, self.daemon.endpoint,
            ["network.hold=forever"],
            env={**os.environ, "RUNTIME_DIRECTORY": str(case.folder)})
        self.up, self.down = self.daemon.record, Record()
        self.guest = Record()
        self.daemon.start()
        self.sender = case.own(
            Child(send_numbered, self.bridge.guest, self.guest))
        case.own(Child(receive_numbered, self.bridge.guest, self.down))

    def go_on(self, frames: int) -> None:
        goals = [(record, len(record.received()) + frames)
                 for record in (self.up, self.down)]
        wait_for(f"{frames} more frames each way", lambda: all(
            len(record.received()) >= goal for record, goal in goals))

    def restart(self, pause: float = 0) -> None:
        self.daemon.kill()
        time.sleep(pause)
        self.daemon.start()

    def freeze(self) -> None:
        """The daemon, and waits until that is noticed. On a busy machine it
        may stand still at other times, too: the limit is short only here."""
        stalls = self.bridge.value("keepalive.write_stalls")
        self.bridge.reload("network.write_stall=500ms")
        self.go_on(100)  # a write that has begun keeps the limit
        self.daemon.signal(SIGSTOP)
        self.bridge.until("keepalive.write_stalls", stalls + 1)
        self.bridge.reload("network.write_stall=30s")

    def come_to_rest(self) -> dict:
        """Ends both senders and waits for what is on its way."""
        self.sender.kill()
        wait_until("frames counted", lambda: self.counted("up"),
                   lambda counted: counted >= self.guest.sent)
        self.daemon.kill()
        seen: list[tuple] = []

        def at_rest() -> bool:
            seen.append((len(self.down.received()), self.counted("down")))
            return len(seen) > 10 and seen[-10:] == [seen[-1]] * 10
        wait_for("all frames to arrive", at_rest)
        return self.bridge.status()

    def counted(self, direction: str) -> int:
        return (self.bridge.value(f"{direction}.frames")
                + sum(self.bridge.value(f"{direction}.drops").values()))

    def account(self, kills: int, deaths: int) -> None:
        """Of `deaths` daemons, so many were killed under traffic: the kernel
        then discards what they sent and nobody had read."""
        status = self.come_to_rest()
        up, down = self.up.received(), self.down.received()
        expect_order("up", up)
        expect_order("down", down)
        counted = self.counted("up")
        expect(self.guest.sent <= counted <= self.guest.tried,
               f"expected {self.guest.sent} frames up to be counted, found"
               f" {counted}")
        expect_equal("dropped in an outage",
                     self.bridge.value("up.drops.outage"), 0)
        inside = self.bridge.value("up.frames") - len(up)
        most = (deaths + 1) * (self.inside + UNRECORDED)
        expect(0 <= inside <= most, f"expected at most {most} frames inside"
               f" what died, found {inside}")
        expect_equal("frames down", len(down), self.bridge.value("down.frames"))
        lost = self.up.tried - self.counted("down")
        most = kills * BUFFER_FRAMES + deaths
        expect(0 <= lost <= most, f"expected at most {most} frames down to be"
               f" uncounted, found {lost}")
        # A last frame may have met the end of the last daemon.
        outages = status["network"]["outages"]
        expect(deaths <= outages <= deaths + 1,
               f"expected {deaths} outages, found {outages}")


def kill_and_freeze(case: Case, act: Callable, inside: int) -> None:
    dice = random.Random(3)
    traffic = Traffic(case, act, inside)
    for _ in range(KILLS):
        traffic.go_on(dice.randrange(1, 300))
        traffic.restart(dice.choice((0, 0, 0.002, 0.05)))
    for _ in range(FREEZES):
        traffic.go_on(dice.randrange(1, 300))
        traffic.freeze()
        traffic.restart()
    traffic.go_on(300)
    traffic.account(KILLS, KILLS + FREEZES)
    traffic.bridge.stop()
    expect_equal("private folders left",
                 list(case.folder.glob("forwarder-*")), [])


@needs()
def datagrams_keep_their_order_over_kills_of_a_gvproxy(case: Case):
    kill_and_freeze(case, act_as_gvproxy, queue_frames())


@needs()
def datagrams_keep_their_order_over_kills_of_a_vmnet_helper(case: Case):
    kill_and_freeze(case, act_as_vmnet_helper, BUFFER_FRAMES)
