"""`forwarder capture`: what tshark reads in it, and what it costs the guest."""

from __future__ import annotations

import os
import pty
import signal
import socket
import struct
import subprocess
from typing import Callable

from forwarder import expect_refused, run_forwarder
from harness import (FORWARDER, SECONDS, Case, Process, above, expect,
                     expect_equal, needs, wait_for, wait_until)
from outage_test import Sequence
from peers import Bridge, Child, flood, pour, read_guest, swallow
from sandbox_test import NETWORK, start
from systemd import Machine

UP, DOWN = 0, 1  # the numbers of the interfaces
FRAME, STATISTICS = 6, 5  # types of blocks


class Blocks:
    """A capture, read block by block: it must be whole."""

    def __init__(self, data: bytes) -> None:
        self.frames = [0, 0]
        self.received = [0, 0]
        self.lost = [0, 0]
        self.last = None
        at = 0
        while at < len(data):
            kind, length = struct.unpack_from("=II", data, at)
            expect_equal("length at the end of the block",
                         data[at + length - 4:at + length],
                         struct.pack("=I", length))
            number, = struct.unpack_from("=I", data, at + 8)
            if kind == FRAME:
                self.frames[number] += 1
            elif kind == STATISTICS:
                self.received[number], = struct.unpack_from("=Q", data, at + 36)
                self.lost[number], = struct.unpack_from("=Q", data, at + 48)
            self.last = kind
            at += length

    def expect_complete(self) -> None:
        expect_equal("the last block", self.last, STATISTICS)
        for way in (UP, DOWN):
            expect_equal("frames and lost ones",
                         self.frames[way] + self.lost[way], self.received[way])


def start_capture(bridge: Bridge, *arguments, **options) -> subprocess.Popen:
    """Runs when this returns."""
    began = len(bridge.lines("info control: capture began"))
    process = subprocess.Popen(
        [FORWARDER, "capture", bridge.control, *arguments],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
    bridge.until_line("info control: capture began", count=began + 1)
    return process


def end(process: subprocess.Popen, status: int = 0, *words: str,
        number: int = 0) -> None:
    if number:
        process.send_signal(number)
    _, error = process.communicate(timeout=SECONDS)
    expect_equal(f"exit status ({error.strip()})", process.returncode, status)
    expect(all(word in error for word in words), f"found: {error}")
    expect(bool(error) == bool(words), f"found: {error}")


def tshark(*arguments) -> list[list[str]]:
    done = subprocess.run(["tshark", "-T", "fields", *map(str, arguments)],
                          capture_output=True, text=True, timeout=50)
    expect_equal(f"exit status of tshark ({done.stderr})", done.returncode, 0)
    return [line.split("\t") for line in done.stdout.splitlines()]


def all_frames(bridge: Bridge) -> list[int]:
    """Those that have arrived so far, by direction."""
    status = bridge.status()
    up, down = status["guest_to_network"], status["network_to_guest"]
    return [up["frames"] + up["drops"]["outage"],
            down["frames"] + down["drops"]["guest_slow"]
            + down["drops"]["guest_absent"]]


def until_quiet(bridge: Bridge) -> list[int]:
    seen: list[list[int]] = []

    def stopped() -> bool:
        seen.append(all_frames(bridge))
        return seen[-4:] == [seen[-1]] * 4
    wait_for("no more frames", stopped)
    return seen[-1]


@needs("tshark", limit=120)
def tshark_reads_a_capture_of_full_load_across_three_outages(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    file = case.path("load.pcapng")
    capture = start_capture(bridge, "--write", file)
    load = [case.own(Child(flood, bridge.guest, 50000, [1514])),
            case.own(Child(read_guest, bridge.guest))]
    for outage in range(4):
        ends = [case.own(Child(pour, connection, 1514)),
                case.own(Child(swallow, connection.socket))]
        for way in ("up", "down"):
            before = bridge.value(f"{way}.frames")
            bridge.until(f"{way}.frames", above(before + 5000))
        if outage < 3:
            for child in ends:
                child.kill()
            bridge.lose(connection)
            connection = bridge.come_back()
    load[0].kill()
    ends[0].kill()
    expected = until_quiet(bridge)
    end(capture, number=signal.SIGTERM)
    blocks = Blocks(file.read_bytes())
    blocks.expect_complete()
    expect_equal("frames received", blocks.received, expected)
    rows = tshark("-r", file, "-e", "frame.interface_id", "-e",
                  "frame.interface_name", "-e", "frame.comment", "-e",
                  "systemd_journal.message")
    for way, name in ((UP, "guest to network"), (DOWN, "network to guest")):
        mine = [row for row in rows if row[0] == str(way)]
        expect_equal(f"frames {name}", len(mine), blocks.frames[way])
        expect_equal("names", {row[1] for row in mine}, {name})
    entries = [row[3] for row in rows
               if row[3] and not row[3].startswith("frames were lost")]
    comments = "; ".join(row[2] for row in rows if row[2])
    wanted = ["capture began: link up, generation 1"]
    for number in (1, 2, 3):
        wanted += [f"generation {number} ended after ",
                   f"generation {number + 1} began after an outage of "]
    wanted += [f"capture ended: {sum(expected)} frames, "
               f"{sum(blocks.lost)} lost"]
    expect(len(entries) == len(wanted) and all(map(str.startswith, entries,
                                                   wanted)),
           f"expected {wanted}, found {entries}")
    for mark in wanted[:-1]:
        expect(mark in comments, f"expected {mark!r} in: {comments}")


@needs("tshark")
def wireshark_can_follow_a_capture_and_leave(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    capture = start_capture(bridge, stdout=subprocess.PIPE)
    shark = case.own(Process(["tshark", "-l", "-n", "-i", "-", "-T", "fields",
                              "-e", "frame.len"], case.path("shark.log"),
                             stdin=capture.stdout))
    for size in range(100, 105):
        bridge.guest.send(bytes(size))
        wait_until(f"tshark to show the frame of {size} bytes",
                   lambda: str(size) in shark.log.read_text().splitlines(),
                   True)
    capture.stdout.close()
    shark.terminate()
    end(capture)  # without a further frame
    connection.send(1)
    bridge.guest.expect(1)


@needs()
def a_reader_that_stops_costs_the_guest_nothing(case: Case):
    bridge = Bridge(case)
    connection = bridge.accept()
    capture = start_capture(bridge, stdout=subprocess.PIPE)
    sequence = Sequence()
    child = case.own(Child(flood, bridge.guest, 50000, [1514]))
    sequence.read_from(connection, 10000)
    expect_equal("frames lost", sequence.missing, 0)
    child.kill()
    case.own(Child(swallow, connection.socket))
    expected = until_quiet(bridge)
    capture.send_signal(signal.SIGTERM)
    data = capture.stdout.buffer.read()
    end(capture)
    blocks = Blocks(data)
    blocks.expect_complete()
    expect(blocks.lost[UP] > 1000, f"expected losses, found {blocks.lost}")
    expect_equal("frames received", blocks.received, expected)


@needs()
def a_client_that_is_killed_makes_room_for_the_next(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    file = case.path("first.pcapng")
    first = start_capture(bridge, "--write", file)
    kept = case.path("kept")
    kept.write_text("precious")
    expect_refused(run_forwarder("capture", bridge.control, "--write", kept),
                   69, bridge.control, "another capture is running")
    expect_equal("the file of the one refused", kept.read_text(), "precious")
    expect_equal("mode", file.stat().st_mode & 0o7777, 0o600)
    end(first, -signal.SIGKILL, number=signal.SIGKILL)
    bridge.until_line("info control: capture ended")
    second = start_capture(bridge, "--write", kept)
    bridge.exchange(connection, 1)
    second.send_signal(signal.SIGINT)
    end(second, number=signal.SIGTERM)  # at once: the end is asked for once
    expect_equal("frames", Blocks(kept.read_bytes()).frames, [1, 1])


@needs()
def a_capture_ends_whole_when_the_forwarder_stops(case: Case):
    """Also if its client is frozen; then without the end."""
    for name in ("taken", "frozen"):
        bridge = Bridge(case.corner(name))
        connection = bridge.meet()
        file = case.path(f"{name}.pcapng")
        capture = start_capture(bridge, "--write", file)
        case.own(Child(pour, connection, 1514))
        wait_for("frames in the file", lambda: file.stat().st_size > 10000)
        if name == "frozen":
            capture.send_signal(signal.SIGSTOP)
        bridge.stop()
        capture.send_signal(signal.SIGCONT)
        end(capture, 69, "ends here: the forwarder stopped")
        if name == "taken":
            Blocks(file.read_bytes()).expect_complete()


@needs()
def an_output_that_cannot_be_written_is_reported(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    for file, reason in (("/dev/full", "No space left on device"),
                         (case.folder, "Is a directory")):  # one by one
        expect_refused(run_forwarder("capture", bridge.control, "--write", file),
                       71, file, reason)
    terminal, slave = pty.openpty()
    done = subprocess.run([FORWARDER, "capture", bridge.control], stdout=slave,
                          stderr=subprocess.PIPE, text=True, timeout=SECONDS)
    expect_refused(done, 64, "a terminal", "--write FILE")
    os.close(terminal)
    os.close(slave)
    expect_refused(run_forwarder("capture", case.path("nobody")), 69,
                   "no forwarder answers")
    bridge.exchange(connection, 1)


def hang_up(tell: Callable, listener: socket.socket) -> None:
    while True:
        listener.accept()[0].close()


@needs()
def a_program_that_hangs_up_at_once_is_reported(case: Case):
    """Before the request is sent: that must not end forwarder by SIGPIPE."""
    path = case.path("control.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        case.own(Child(hang_up, listener))
        for _ in range(5):
            expect_refused(run_forwarder("capture", path), 69,
                           "no forwarder answers", path)


def hand_over_at_once(tell: Callable, listener: socket.socket) -> None:
    memory = os.memfd_create("blocks")
    os.write(memory, b"blocks!!")
    client, _ = listener.accept()
    client.recv(100)
    hello_and_part = struct.pack("=12sIII", b"pcapng by 1", 8, 0, 8)
    socket.send_fds(client, [hello_and_part], [memory])
    tell(client.recv(1))


@needs()
def a_part_that_arrives_with_the_hello_is_not_missed(case: Case):
    """Linux keeps the two apart, which no other system promises."""
    path = case.path("control.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        program = case.own(Child(hand_over_at_once, listener))
    done = subprocess.run([FORWARDER, "capture", path], capture_output=True,
                          timeout=SECONDS)
    expect_equal("output", done.stdout, b"blocks!!")
    wait_until("answer", program.hear, lambda said: said == b"t")


@needs("root", "systemd", "plain-build")
def root_captures_from_a_service_in_its_sandbox(case: Case):
    machine = Machine(case)
    service = start(machine, "forwarder@vm1", f"unix:{NETWORK}")
    service.until_journal("service: started")
    machine.run("timeout", "--preserve-status", "--signal=INT", "1",
                "forwarder", "capture", f"{service.folder}/control.sock",
                "--write", "/run/vm1.pcapng")
    Blocks(machine.path("/run/vm1.pcapng").read_bytes()).expect_complete()
