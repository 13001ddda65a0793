"""Errors at start with their exit status, the log, and `forwarder status`. The
suites config, options, endpoint and unix_bind test the single errors."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
from pathlib import Path

from forwarder import expect_refused, run_forwarder
from harness import Case, expect, expect_equal, needs
from peers import MAC, Bridge

EX_USAGE, EX_UNAVAILABLE, EX_OSERR, EX_CONFIG = 64, 69, 71, 78


def write(case: Case, text: str, name: str = "forwarder.ini") -> Path:
    path = case.path(name)
    path.write_text(text)
    return path


# --- the configuration --------------------------------------------------------

@needs()
def every_problem_of_the_configuration_is_reported_with_its_place(case: Case):
    path = write(case, "[network]\nendpont = unix:/run/x\n"
                       "[reconnect]\nmin = 3s\nmax = 2s\n")
    done = run_forwarder("-c", path, "-g", "fd:x")
    expect_equal("exit status", done.returncode, EX_CONFIG)
    expect_equal("standard output", done.stdout, "")
    expect_equal("where", [line.split(": ")[:2] for line
                           in done.stderr.splitlines()], [
        ["forwarder", f"{path}:2"], ["forwarder", "-g fd:x"],
        ["forwarder", f"{path}:4"]])


@needs()
def check_prints_what_would_run_and_starts_nothing(case: Case):
    guest = case.path("guest.sock")
    path = write(case, f"[guest]\nendpoint = unixgram:{guest}\n"
                       "[network]\nhold = 120s ; two minutes\n")
    done = run_forwarder("--check", "-c", path, "-n", "tcp:[::1]:7000",
                         "-o", "log.level=error", "-v")
    expect_equal("exit status", done.returncode, 0)
    said = done.stdout
    for line in (f"endpoint     = unixgram:{guest}", "hold         = 120s",
                 "endpoint     = tcp:[::1]:7000", "level        = warn",
                 "mode         = auto ; here: arp, once guest and gateway are "
                 "known", "name         = ; here: forwarder"):
        expect(f"\n{line}\n" in said, f"expected {line!r} in:\n{said}")
    expect(not guest.exists(), "expected no socket to be made")
    again = run_forwarder("--check", "-c", write(case, said, "again.ini"))
    expect_equal("the output for its own output",
                 again.stdout.replace("here: again", "here: forwarder"), said)
    wrong = write(case, "[network]\nendpont = x\n")
    expect_equal("the errors of a wrong file",
                 run_forwarder("--check", "-c", wrong).stderr,
                 run_forwarder("-c", wrong).stderr)


# --- the command line, and what the system refuses ----------------------------

@needs()
def wrong_command_line_is_one_line_and_64(case: Case):
    nobody = ["-n", "unix:/nobody"]
    for arguments in ([], ["-x"], ["word"], ["-o"], ["--check=x"],
                      ["status", "--json", "--prometheus", "x"],
                      [*nobody, "--"], [*nobody, "--", "sh", "-c", "exit"],
                      ["-g", "fd:3", *nobody, "--", "sh", "{fd}"]):
        expect_refused(run_forwarder(*arguments), EX_USAGE,
                       'see "forwarder --help"')


@needs()
def a_refusal_of_the_system_is_one_line_and_leaves_nothing(case: Case):
    bridge = Bridge(case)
    folder, port = case.path("missing"), socket.create_server(("127.0.0.1", 0))
    taken = "{}:{}".format(*case.own(port).getsockname())
    write(case, "precious", "file")
    for changed, words in (
            ({"-g": f"unixgram:{bridge.guest_path}"}, ["in use"]),
            ({"-g": f"unixgram:{folder}/guest.sock"}, ["its folder"]),
            ({"-g": "fd:99"}, ["fd:99", "no such"]),
            ({"-n": f"listen-unix:{case.path('file')}"}, ["not a socket"]),
            ({"-n": f"listen-tcp:{taken}"}, [taken, "in use"]),
            ({"-n": "listen-tcp:192.0.2.1:7000", "-o": "network.allow=::/0"},
             ["192.0.2.1:7000", "assign"]),
            ({"-o": f"control.socket={bridge.control}"},
             [bridge.control, "in use"])):
        given = {"-g": f"unixgram:{case.path('2.sock')}",
                 "-n": f"listen-unix:{case.path('listener.sock')}",
                 "-o": f"control.socket={case.path('2.control')}"} | changed
        line = expect_refused(run_forwarder(*sum(given.items(), ())), EX_OSERR,
                              *words)
        expect(" error " in line, line)
        for name in ("2.sock", "listener.sock", "2.control"):
            expect(not case.path(name).exists(), f"{name} left: {line}")
    expect_equal("the file", case.path("file").read_text(), "precious")
    bridge.exchange(bridge.accept(), 1)


@needs("plain-build")
def too_little_memory_at_start_is_reported_and_leaves_nothing(case: Case):
    """Limits at which the buffers, or a thread's stack, are refused."""
    guest = case.path("guest.sock")
    for megabytes in (16, 24, 32, 40):
        limit = megabytes << 20
        done = run_forwarder(
            "-g", f"unixgram:{guest}", "-n", "unix:/x", preexec_fn=lambda:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        expect_equal("exit status", done.returncode, EX_OSERR)
        expect("error service: can't start: " in done.stderr, done.stderr)
        expect(not guest.exists(), "expected no guest socket to be left")


# --- the log ------------------------------------------------------------------

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
                  r"(error|warn|info|debug) "
                  r"(guest|link|keepalive|config|control|service): \S.*")


@needs()
def each_event_is_one_line_with_time_level_subsystem_and_name(case: Case):
    bridge = Bridge(case)
    bridge.meet().close()
    bridge.meet()
    bridge.reload("service.name=vm1")
    bridge.signal(signal.SIGUSR1)
    for start, words in (
            ("info service: status of guest:", [case.path("vm.sock")]),
            ("info service: status of network:",
             ['state="up"', "generation=2"]),
            ("info service: status of guest_to_network:", ["frames=2"]),
            ("info service: status of network_to_guest:", ["frames=2"]),
            ("info service: status of keepalive:", ["mode="])):
        bridge.until_line(start, *words)
    bridge.process.terminate()
    lines = bridge.log_text().splitlines()
    for line in lines:
        expect(LINE.fullmatch(line), f"expected a line of the log: {line!r}")
    named = [line.endswith(" name=vm1") for line in lines]
    expect(not named[0] and named.count(True) >= 6
           and all(named[named.index(True):]),
           f"expected a name on each line since the reload: {lines}")


# --- status -------------------------------------------------------------------

@needs()
def status_reports_both_ends_in_every_form(case: Case):
    bridge = Bridge(case, name="vm1")
    bridge.meet()
    bridge.until("down.frames", 1)
    bridge.until("up.frames", 1)
    peer = str(case.path("vm1vm.sock"))
    status = json.loads(run_forwarder("status", "-c", bridge.file,
                                      "--json").stdout)
    for key, wanted in (("name", "vm1"), ("pid", bridge.pid),
                        ("guest", {"endpoint": f"unixgram:{bridge.guest_path}",
                                   "peer": peer, "mac": MAC.hex(":")})):
        expect_equal(key, status[key], wanted)
    network = status["network"]
    for key, wanted in (("endpoint", bridge.daemon.endpoint), ("state", "up"),
                        ("generation", 1), ("outages", 0), ("dials", 1),
                        ("last_error", "")):
        expect_equal(key, network[key], wanted)
    people = run_forwarder("status", bridge.control).stdout
    for word in (str(bridge.guest_path), peer, bridge.daemon.endpoint,
                 MAC.hex(":"), " up\n"):
        expect(word in people, f"expected {word!r} in:\n{people}")
    metrics = run_forwarder("status", bridge.control, "--prometheus").stdout
    for line in ('forwarder_up{name="vm1"} 1',
                 'forwarder_frames_total{name="vm1",'
                 'direction="guest_to_network"} 1',
                 'forwarder_drops_total{name="vm1",'
                 'direction="guest_to_network",reason="outage"} 0'):
        expect(f"\n{line}\n" in metrics, f"expected {line!r} in {metrics}")


@needs()
def status_exits_with_69_without_a_forwarder(case: Case):
    for form in ((), ("--json",), ("--prometheus",), ("--watch",)):
        path = case.path("missing.sock")
        done = run_forwarder("status", path, *form)
        expect_refused(done, EX_UNAVAILABLE, path, "No such file")
        expect_equal("standard output", done.stdout, "")
