"""Probe frames, peers that answer them, and ways in which a peer falls silent."""

from __future__ import annotations

import ctypes
import datetime
import select
import socket
import struct
import threading
import time
from typing import Callable, Optional

from forwarder import Forwarder
from harness import NEEDS, expect_equal
from peers import (BROADCAST, IPV4, MAC, Bridge, Connection, Deframer,
                   FakeDaemon, frame, framed, number_of, raw_frame)

ARP = 0x0806
OURS = 0x88B5
PROBE_BYTES = 60
ROUTER_MAC = bytes.fromhex("5254000000fe")
OTHER_MAC = bytes.fromhex("525400000001")
BETWEEN_FORWARDERS = bytes.fromhex("024657444b41")
NOBODY_YET = bytes.fromhex("024657444b42")
PING, PONG = 1, 2
PING_MARK = b"FWDK\x01\x01"


# --- frames -------------------------------------------------------------------

def pong(sequence: int) -> bytes:
    return raw_frame(struct.pack("!4sBB2xQ", b"FWDK", 1, PONG, sequence), OURS,
                     NOBODY_YET, BETWEEN_FORWARDERS).ljust(PROBE_BYTES, b"\0")


def is_type(ether_type: int, one: bytes) -> bool:
    return one[12:14] == struct.pack("!H", ether_type)


def is_of_kind(kind: int, one: bytes) -> bool:
    return is_type(OURS, one) and one[19] == kind


def sequence_of(one: bytes) -> int:
    return struct.unpack_from("!Q", one, 22)[0]


def arp(operation: int, sender: tuple[bytes, str], target: tuple[bytes, str],
        to: bytes) -> bytes:
    """Sender and target are (MAC, address)."""
    body = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation) + b"".join(
        mac + socket.inet_aton(address) for mac, address in (sender, target))
    return raw_frame(body, ARP, sender[0], to).ljust(PROBE_BYTES, b"\0")


def arp_question(sender: tuple[bytes, str], address: str,
                 to: bytes = BROADCAST) -> bytes:
    return arp(1, sender, (bytes(6), address), to)


def arp_answer(sender: tuple[bytes, str], target: tuple[bytes, str]) -> bytes:
    return arp(2, sender, target, target[0])


def is_probe_for(address: str, one: bytes, guest: bytes = MAC) -> bool:
    """RFC 5227's probe in the guest's name, by broadcast."""
    return one[6:] == arp_question((guest, "0.0.0.0"), address)[6:]


# --- a peer's end of a connection ---------------------------------------------

def next_where(connection: Connection, wanted: Callable[[bytes], bool]
               ) -> bytes:
    """The next such frame; those before it are lost."""
    while True:
        one = connection.next()
        if wanted(one):
            return one


def meet(bridge: Bridge) -> Connection:
    """As Bridge.meet(), also where probes are sent."""
    connection = bridge.accept()
    bridge.guest.send(0)
    first = next_where(connection, lambda one: is_type(IPV4, one))
    expect_equal("first frame", number_of(first), 0)
    connection.send(0)
    bridge.guest.expect(0)
    return connection


def answer_a_ping(connection: Connection) -> float:
    """Returns when it did, by the wall clock."""
    asked = next_where(connection, lambda one: is_of_kind(PING, one))
    connection.send(pong(sequence_of(asked)))
    return time.time()


def what_comes(connection: Connection, seconds: float) -> list[bytes]:
    """All frames of that time, announcements included."""
    frames, connection.waiting = connection.waiting, []
    deadline = time.monotonic() + seconds
    while select.select([connection.socket], [], [],
                        max(0.0, deadline - time.monotonic()))[0]:
        frames += connection.read()
    return frames


def fall_silent(stream: socket.socket) -> None:
    """From now on the kernel throws away all that arrives for this socket and
    acknowledges nothing, as if the host were gone (BPF: return 0)."""
    program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    stream.setsockopt(socket.SOL_SOCKET, 26,  # SO_ATTACH_FILTER
                      struct.pack("HP", 1, ctypes.addressof(program)))


def lacks_filter() -> Optional[str]:
    with socket.socket() as stream:
        try:
            fall_silent(stream)
            return None
        except PermissionError:
            return "a socket filter (SO_ATTACH_FILTER)"


NEEDS["filter"] = lacks_filter


# --- peers that are processes -------------------------------------------------

def answer_marks(stream: socket.socket, data: bytes) -> bytes:
    """Answers each PING somewhere in the data, at the price of a search.
    Returns what may be the beginning of the next."""
    at = data.find(PING_MARK)
    while at >= 0 and at + 16 <= len(data):
        stream.sendall(framed(pong(struct.unpack_from("!Q", data, at + 8)[0])))
        at = data.find(PING_MARK, at + 16)
    return data[at:] if at >= 0 else data[-len(PING_MARK) + 1:]


def echo_daemon(tell: Callable, daemon: FakeDaemon) -> None:
    """Serves one client after another: answers PINGs, and sends other frames
    back."""
    daemon.listener.settimeout(None)
    while True:
        stream, _ = daemon.listener.accept()
        deframer = Deframer()
        try:
            while data := stream.recv(262144):
                for one in deframer.feed(data):
                    if is_of_kind(PING, one):
                        stream.sendall(framed(pong(sequence_of(one))))
                    elif is_type(IPV4, one):
                        stream.sendall(framed(one))
        except ConnectionError:
            pass


def busy_daemon(tell: Callable, daemon: FakeDaemon, talks: int) -> None:
    """Reads everything and answers PINGs. If it talks, it also sends a flood of
    frames after the client's first frame that is long enough for data."""
    daemon.listener.settimeout(None)
    stream, _ = daemon.listener.accept()
    lock = threading.Lock()
    burst = framed(*(frame(number, 1514) for number in range(20)))
    rest, pouring = b"", False

    class Locked:
        @staticmethod
        def sendall(data: bytes) -> None:
            with lock:
                stream.sendall(data)

    def pour() -> None:
        while True:
            Locked.sendall(burst)

    while data := stream.recv(262144):
        rest = answer_marks(Locked, rest + data)
        if talks and not pouring and len(data) > 1000:
            pouring = True
            threading.Thread(target=pour, daemon=True).start()


# --- the time of a log line ---------------------------------------------------

def wait_for_time_of(forwarder: Forwarder, start: str) -> float:
    """When the first line that begins so was written, by the wall clock."""
    forwarder.until_line(start)
    stamp = next(line.partition(" ")[0]
                 for line in forwarder.log_text().splitlines()
                 if line.partition(" ")[2].startswith(start))
    return datetime.datetime.fromisoformat(
        stamp.replace("Z", "+00:00")).timestamp()
