"""What the C library does, which is not the same in the programs that `make`
and `make static` build."""

from __future__ import annotations

import re
import sys

from forwarder import Forwarder
from harness import Case, Namespace, Process, expect, needs, wait_for
from peers import Bridge, frame, framed

# Every name is 127.0.0.1, and has no IPv6 address.
NAME_SERVER = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("listening", flush=True)
while True:
    query, client = server.recvfrom(512)
    question = query[12:query.index(0, 12) + 5]
    found = int(question[-4:-2] == b"\\0\\1")
    record = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4\\x7f\\0\\0\\1"
    server.sendto(query[:2] + b"\\x81\\x80\\0\\1\\0" + bytes([found])
                  + bytes(4) + question + record * found, client)
"""


@needs("namespaces")
def host_of_tcp_is_found_by_a_name_server(case: Case):
    host = case.own(Namespace())
    host.ip("link set lo up")
    server = case.own(Process(host.enter(sys.executable, "-c", NAME_SERVER),
                              case.path("server.log")))
    wait_for("the name server", server.log.read_text)
    case.path("resolv.conf").write_text("nameserver 127.0.0.1\n")
    listener = case.corner("listener")
    Forwarder(listener, "listen-tcp:127.0.0.1:7000",
              f"unixgram:{listener.path('guest.sock')}", host=host)
    dialler = Forwarder(
        case, "tcp:daemon.example:7000", f"unixgram:{case.path('guest.sock')}",
        host=host, before=["unshare", "--mount", "sh", "-c",
                           f"mount --bind {case.path('resolv.conf')} "
                           '/etc/resolv.conf && exec "$@"', "sh"])
    dialler.until("network.state", "up")


@needs("strace")
def frames_that_arrive_together_reach_the_guest_by_one_system_call(case: Case):
    trace = case.path("trace")
    bridge = Bridge(case, before=["strace", "-D", "-f", "-o", trace, "-e",
                                  "trace=sendmsg,sendmmsg"])
    bridge.meet().socket.sendall(framed(*[frame(1, 100)] * 20))
    bridge.until("down.frames", 21)
    calls = [int(sent) for sent in
             re.findall(r"sendmmsg.* = (\d+)$", trace.read_text(), re.M)]
    expect(20 in calls, f"expected 20 frames in a call, found {calls} in:\n"
           f"{trace.read_text()[-2000:]}")
