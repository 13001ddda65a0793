"""SIGHUP: what a new configuration changes at once; a wrong one changes
nothing."""

from __future__ import annotations

import os
import signal
import stat

from harness import Case, expect, expect_equal, needs
from peers import Bridge, frame


@needs()
def reload_changes_the_longest_frame_the_log_and_the_mode_of_probing(
        case: Case):
    bridge = Bridge(case, ["log.level=info"])
    connection = bridge.meet()
    expect_equal("mode", bridge.value("keepalive.mode"), "passive")
    bridge.reload("network.max_frame=1000", "keepalive.mode=peer",
                  "guest.mode=0660", "control.mode=0640", "log.level=debug")
    expect_equal("mode", bridge.value("keepalive.mode"), "peer")
    expect_equal("mode of the guest's socket", oct(stat.S_IMODE(
        bridge.guest_path.stat().st_mode)), oct(0o660))
    expect_equal("mode of the control socket", oct(stat.S_IMODE(
        bridge.control.stat().st_mode)), oct(0o640))
    longest = frame(3, 1000)
    bridge.guest.send(frame(2, 1001), longest)
    connection.expect(longest)
    bridge.until("up.drops.oversize", 1)
    expect_equal("generation", bridge.value("network.generation"), 1)
    bridge.lose(connection)
    bridge.until_line("debug link: dial failed")


@needs()
def reload_changes_hold_in_the_middle_of_an_outage(case: Case):
    bridge = Bridge(case, ["network.hold=0", "network.keep=0"])
    bridge.lose(bridge.meet())
    bridge.guest.send(1, 2)
    bridge.until("up.drops.outage", 2)
    bridge.reload("network.hold=forever")
    bridge.guest.send(3, 4)
    connection = bridge.come_back()
    connection.expect(3, 4)
    bridge.lose(connection)
    bridge.guest.send(5, 6)
    bridge.reload("network.hold=0")
    bridge.until("up.drops.outage", 4)


@needs()
def reload_drops_frames_that_may_not_be_kept_any_more(case: Case):
    bridge = Bridge(case, ["network.hold=0"])
    bridge.lose(bridge.meet())
    bridge.guest.send(1, 2, 3)
    bridge.until("up.kept", 3)
    bridge.reload("network.keep=1")
    bridge.until("up.drops.outage", 2)
    connection = bridge.come_back()
    connection.expect(3)
    bridge.until("up.kept", 0)


@needs()
def reload_moves_the_control_socket(case: Case):
    bridge = Bridge(case)
    old = bridge.control
    bridge.reload(f"control.socket={case.path('moved.sock')}")
    bridge.status()
    expect(not old.exists(), "expected the old socket to be removed")
    moved = bridge.control
    bridge.reload("control.socket=")
    expect(not moved.exists(), "expected no socket any more")


@needs()
def reload_that_the_system_refuses_changes_nothing(case: Case):
    """A later reload with the same settings is not taken for unchanged."""
    bridge = Bridge(case)
    connection = bridge.meet()
    moved = case.path("missing/moved.sock")
    bridge.refuse_reload(f"control.socket={moved}", "network.max_frame=1000")
    second = case.path("second.sock")
    bridge.refuse_reload(f"control.socket={second}", "network.endpoint="
                         f"listen-unix:{case.path('missing/x.sock')}")
    expect(not second.exists(), "expected no second socket")
    bridge.guest.send(frame(1, 1514))
    connection.expect(1)
    moved.parent.mkdir()
    old = bridge.control
    bridge.reload(f"control.socket={moved}")
    bridge.status()
    expect(not old.exists(), "expected the old socket to be removed")


@needs()
def reload_keeps_the_guest_endpoint_and_logs_it(case: Case):
    bridge = Bridge(case)
    other = case.path("other.sock")
    bridge.reload(f"guest.endpoint=unixgram:{other}")
    bridge.until_line("warn config:")
    expect(not other.exists(), "expected no second socket")
    expect_equal("endpoint", bridge.value("guest.endpoint"),
                 f"unixgram:{bridge.guest_path}")


@needs()
def reload_of_a_wrong_file_changes_nothing_and_is_logged(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    bridge.refuse_reload("network.max_frame=100", "network.hold=soon",
                         "network.endpont=unix:/nowhere")
    for word in ("[network] hold", "[network] endpont"):
        expect(any(f"{bridge.file}:" in line and word in line
                   for line in bridge.lines("error config: ")), word)
    bridge.guest.send(frame(1, 1514))
    connection.expect(1)
    # Nor does one that would make it wait.
    bridge.file.unlink()
    os.mkfifo(bridge.file)
    bridge.signal(signal.SIGHUP)
    bridge.until_line(f"error config: {bridge.file}: not a regular file")
    bridge.stop()
