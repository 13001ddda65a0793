"""The network goes away and comes back; the guest should hardly notice."""

from __future__ import annotations

import random
import time

from harness import Case, expect, expect_equal, needs, wait_for
from peers import (Bridge, Child, Connection, flood, frame, is_announcement,
                   number_of)

RATE = 20000
KILLS = 50
SIZES = [60, 64, 100, 590, 1514]


class Sequence:
    """Checks that the frames of a flood come in order, none twice."""

    def __init__(self) -> None:
        self.last = 0
        self.missing = 0

    def add(self, received: list[bytes]) -> None:
        for one in received:
            if is_announcement(one):
                continue
            number = number_of(one)
            expect(number > self.last, f"expected a frame after {self.last},"
                   f" found {number} (twice, or out of order)")
            self.missing += number - self.last - 1
            self.last = number

    def read_from(self, connection: Connection, frames: int) -> None:
        goal = self.last + frames
        while self.last < goal:
            self.add(connection.read())


def until_no_more_frames(bridge: Bridge) -> int:
    """Returns how many frames the network accepted before it was full."""
    seen: list[int] = []

    def stopped() -> bool:
        seen.append(bridge.value("up.frames"))
        return seen[-1] > 1 and seen[-4:] == [seen[-1]] * 4
    wait_for("the network to take no more", stopped)
    return seen[-1]


def prove(bridge: Bridge, connection: Connection) -> None:
    """The forwarder has heard from the daemon when the guest has."""
    connection.send(0)
    bridge.guest.next()


@needs(limit=120)
def no_frame_is_lost_or_doubled_when_a_daemon_exits_fifty_times(case: Case):
    """The daemon reports what it left unread, so no gap is allowed at all. It
    ends at any moment: inside a frame, with an empty or a full buffer."""
    dice = random.Random(2)
    bridge = Bridge(case)
    sequence = Sequence()
    case.own(Child(flood, bridge.guest, RATE, SIZES))
    connection = bridge.accept()
    bridge.until("guest.peer", bool)
    for _ in range(KILLS):
        prove(bridge, connection)
        sequence.read_from(connection, dice.randrange(1, 2500))
        if dice.random() < 0.3:  # with a full buffer
            until_no_more_frames(bridge)
        bridge.daemon.stop()
        sequence.add(connection.drain_after_death())
        time.sleep(dice.choice((0, 0, 0.002, 0.05)))
        bridge.daemon.start()
        connection = bridge.accept()
    sequence.read_from(connection, 1000)
    expect_equal("frames lost", sequence.missing, 0)
    bridge.until("network.outages", KILLS)
    expect_equal("frames dropped", bridge.value("up.drops.outage"), 0)
    lost = bridge.lines("warn link: lost")
    expect(len(lost) <= KILLS, f"expected {KILLS} warnings, found {len(lost)}")
