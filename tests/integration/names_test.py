"""Names of hosts are looked up by the C library, which is not the same in the
programs that `make` and `make static` build."""

from __future__ import annotations

import sys

from forwarder import Forwarder
from harness import Case, Namespace, Process, needs, wait_for

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
