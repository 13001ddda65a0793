"""A real guest, a stateless daemon, and the forwarder between them."""

from __future__ import annotations

import time

from daemons import Iperf3Server, L2Daemon
from forwarder import Forwarder, ask_status
from harness import FORWARDER, Case, expect, expect_equal, needs, wait_for
from vm import Guest, received_bytes

# Seconds from a kill to the next start, for supervisors that restart at once or
# after a pause.
RESTART_DELAYS = [0, 1.0, 0, 0.05, 0.5, 0, 0.01, 0.2, 0, 1.0]
PING = f"ping -c 3 -i 0.2 -W 5 {L2Daemon.ADDRESS}"


def start_daemon(case: Case) -> L2Daemon:
    daemon = case.own(L2Daemon(case.folder))
    daemon.start()
    return daemon


def start_forwarder(case: Case, daemon: L2Daemon) -> Forwarder:
    """An emulated guest is slower than its network. As it is the only guest, the
    network may always wait for it instead of losing frames. Its daemon may be
    slow to start on a busy machine."""
    return Forwarder(case, f"unix:{daemon.socket}",
                     f"unixgram:{case.path('guest.sock')}",
                     ["guest.stall=1s", "network.hold=1m"])


def start_guest(case: Case) -> Guest:
    """Behind the forwarder."""
    return case.own(Guest(case.folder, Guest.on_path(case.folder),
                          L2Daemon.GUEST_ADDRESS))


def wait_for_frames_after(forwarder: Forwarder, generation: int,
                          daemon: L2Daemon) -> None:
    """Waits until a newer generation is up and receives more frames."""
    seen: dict = {}

    def frames_move() -> bool:
        daemon.supervise()
        status = forwarder.status()
        network = status["network"]
        if network["state"] != "up" or network["generation"] <= generation:
            return False
        frames = status["network_to_guest"]["frames"]
        return frames > seen.setdefault(network["generation"], frames)

    wait_for(f"frames from the network in a generation after {generation}",
             frames_move)


@needs("guest", "namespaces", "tun", "iperf3", limit=120)
def guest_keeps_its_tcp_session_while_the_daemon_is_killed_ten_times(
        case: Case):
    daemon = start_daemon(case)
    servers = [case.own(Iperf3Server(case.folder, daemon.namespace,
                                     daemon.ADDRESS, port))
               for port in (5201, 5202)]
    forwarder = start_forwarder(case, daemon)
    guest = start_guest(case)
    guest.run(PING)
    before = forwarder.value("network")
    client = f"iperf3 --json --client {daemon.ADDRESS} --time 20"
    sessions = [guest.start(f"{client} --port 5201"),
                guest.start(f"{client} --port 5202 --reverse")]
    for server in servers:
        wait_for("a session to begin",
                 lambda: "connected to" in server.log.read_text(), 20)

    for delay in RESTART_DELAYS:
        generation = forwarder.value("network.generation")
        daemon.kill()
        time.sleep(delay)
        daemon.start()
        wait_for_frames_after(forwarder, generation, daemon)

    expect(all(session.alive() for session in sessions),
           "expected both sessions to outlive the last kill: they were too"
           " short for this machine")
    for session in sessions:
        expect(received_bytes(session.wait(40)) > 0, "expected bytes to arrive")
    expect_equal("outages", forwarder.value("network.outages")
                 - before["outages"], len(RESTART_DELAYS))
    expect_equal("frames dropped", forwarder.value("up.drops.outage"), 0)
    forwarder.stop()


# --- forwarder ... -- COMMAND -------------------------------------------------

FD_NETDEV = "dgram,id=n0,local.type=fd,local.str={fd}"


@needs("guest", "namespaces", "tun", limit=120)
def wrapper_gives_its_guest_a_network_and_returns_its_exit_status(case: Case):
    daemon, control = start_daemon(case), case.path("control.sock")
    guest = case.own(Guest(
        case.folder, FD_NETDEV, L2Daemon.GUEST_ADDRESS,
        prefix=[FORWARDER, "-n", f"unix:{daemon.socket}",
                "-o", f"control.socket={control}", "--"]))
    guest.run(PING)
    status = ask_status(control)
    expect_equal("state", status["network"]["state"], "up")
    expect(status["network_to_guest"]["frames"] > 0, "expected frames counted")
    guest.power_off()
    expect_equal("exit status", guest.process.wait(), 0)
    expect(not control.exists(), "expected no control socket")
