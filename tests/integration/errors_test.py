"""What is said when something is wrong, and what the process ends with; the
log; and what `forwarder status` tells."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
from pathlib import Path

from forwarder import ask_status
from harness import (FORWARDER, ROOT, Case, Process, expect, expect_equal,
                     needs, wait_for, wait_until_equal)
from peers import (MAC, Bridge, FakeDaemon, frame, guest_on_path, lines_of,
                   number_of, run_as_nobody, run_forwarder)

EX_USAGE, EX_UNAVAILABLE, EX_OSERR, EX_CONFIG = 64, 69, 71, 78


# --- the configuration --------------------------------------------------------

def write(case: Case, text: str, name: str = "forwarder.ini") -> Path:
    path = case.path(name)
    path.write_text(text)
    return path


def problems(*arguments) -> list[str]:
    """Of a start that wrong configuration prevents."""
    done = run_forwarder(*arguments)
    expect_equal(f"exit status of {arguments}", done.returncode, EX_CONFIG)
    expect_equal("standard output", done.stdout, "")
    lines = done.stderr.splitlines()
    for line in lines:
        expect(line.startswith("forwarder: "), f"expected who says it: {line}")
    return [line.removeprefix("forwarder: ") for line in lines]


@needs()
def every_problem_of_the_configuration_is_told_with_file_and_line(case: Case):
    path = write(case, """\
[guest]
endpoint = unixgram:relative.sock
mode = 0999

[keepalive]
interval = 0.5x
count = 0

[network]
endpont = unix:/run/x
hold = 2 weeks
max_frame = 69633
[netwrok]
hold = 1s
[log]
level = loud
level
""")
    told = problems("-c", path)
    start = f"{path}:"
    for line, words in (
            (3, ["[guest] mode", '"0999"', "octal"]),
            (6, ["[keepalive] interval", '"0.5x" is not a duration '
                 "(examples: 500ms, 5s, 2m)"]),
            (7, ["[keepalive] count", '"0" is out of range', "1 to 100"]),
            (10, ["[network] endpont: unknown key",
                  '(did you mean "endpoint"?)']),
            (11, ["[network] hold", '"2 weeks" is not a duration']),
            (12, ["[network] max_frame", '"69633"', "60 to 69632"]),
            (13, ["[netwrok]", "unknown section", '"network"']),
            (16, ["[log] level", '"loud" is not one of error, warn, info,'
                                 " debug"]),
            (17, ["key = value"])):
        found = [one for one in told if one.startswith(f"{start}{line}: ")]
        expect_equal(f"problems of line {line} in {told}", len(found), 1)
        for word in words:
            expect(word in found[0], f"expected {word!r} in: {found[0]}")
    expect_equal("problems", len(told), 9)


@needs()
def problem_of_an_option_names_the_option(case: Case):
    told = problems("-o", "network.hold=soon", "-o", "network.holt=1s",
                    "-o", "nowhere.key=1", "-g", "fd:x", "-n", "ftp:host")
    for start, word in (("-o network.hold=soon: ", "not a duration"),
                        ("-o network.holt=1s: ", '"hold"'),
                        ("-o nowhere.key=1: ", "unknown section"),
                        ("-g fd:x: ", "a descriptor is a number"),
                        ("-n ftp:host: ", "unix:")):
        expect(any(line.startswith(start) and word in line for line in told),
               f"expected {start!r} and {word!r} in {told}")
    expect_equal("problems", len(told), 5)


@needs()
def values_that_contradict_each_other_are_told(case: Case):
    path = write(case, "[reconnect]\nmin = 3s\nmax = 2s\n")
    told = problems("-c", path)
    expect_equal("problems", len(told), 1)
    expect(told[0].startswith(f"{path}:2: [reconnect] min: "), told[0])


@needs()
def listening_beyond_the_loopback_needs_a_list_of_who_may_connect(case: Case):
    told = problems("-n", "listen-tcp:0.0.0.0:7000")
    expect_equal("problems", len(told), 1)
    expect("allow" in told[0], told[0])


@needs()
def endpoint_of_the_network_that_cannot_be_is_told(case: Case):
    for endpoint, word in (
            ("unix:", "missing"), ("unix:" + "x" * 108, "107 bytes"),
            ("tcp:host", "port"), ("tcp:host:0", "port"),
            ("tcp:host:65536", "port"), ("tcp:::1:7000", "[::1]:7000"),
            ("tcp::7000", "host"), ("listen-tcp:some.example:7000", "a name")):
        told = problems("-n", endpoint)
        expect_equal(f"problems of {endpoint}", len(told), 1)
        expect(word in told[0], f"expected {word!r} in: {told[0]}")


@needs()
def configuration_that_cannot_be_read_is_told(case: Case):
    for path, word in ((case.path("missing.ini"), "No such file"),
                       (case.folder, "directory"),
                       (write(case, "[log]\nlevel = info\0\n"), "text file")):
        told = problems("-c", path)
        expect_equal(f"problems of {path}", len(told), 1)
        expect(told[0].startswith(str(path)) and word in told[0], told[0])


@needs("root")
def configuration_without_permission_is_told(case: Case):
    path = write(case, "[log]\n")
    path.chmod(0o600)
    done = run_as_nobody(case, "--check", "-c", path)
    expect_equal("exit status", done.returncode, EX_CONFIG)
    expect("Permission denied" in done.stderr, done.stderr)


@needs()
def check_says_what_would_run_and_starts_nothing(case: Case):
    guest = case.path("guest.sock")
    path = write(case, f"""\
[guest]
endpoint = unixgram:{guest}
[network]
hold = 120s ; two minutes
write_batch = 65536
""")
    done = run_forwarder("--check", "-c", path, "-n", "tcp:[::1]:7000",
                         "-o", "log.level=warn")
    expect_equal("exit status", done.returncode, 0)
    said = done.stdout
    for line in (f"endpoint     = unixgram:{guest}", "hold         = 2m",
                 "endpoint     = tcp:[::1]:7000", "write_batch  = 64K",
                 "level        = warn", "max_frame    = 65550"):
        expect(f"\n{line}\n" in said, f"expected {line!r} in:\n{said}")
    expect(not guest.exists(), "expected no socket to be made")
    again = run_forwarder("--check", "-c", write(case, said, "again.ini"))
    expect_equal("what it says of its own answer",
                 again.stdout.replace("here: again", "here: forwarder"), said)
    for line in ("mode         = auto ; here: arp, once guest and gateway are "
                 "known", "name         = ; here: forwarder"):
        expect(f"\n{line}\n" in said, f"expected {line!r} in:\n{said}")


@needs()
def check_tells_problems_as_a_start_does(case: Case):
    path = write(case, "[network]\nendpont = x\n")
    expect_equal("problems", problems("--check", "-c", path),
                 problems("-c", path))


@needs()
def annotated_default_is_the_default(case: Case):
    expect_equal("what the file says",
                 run_forwarder("--check", "-n", "unix:/x", "-c",
                               ROOT / "forwarder.ini").stdout
                 .replace("here: forwarder", "here: guest"),
                 run_forwarder("--check", "-n", "unix:/x").stdout)


@needs()
def options_go_before_the_file_and_the_last_one_wins(case: Case):
    path = write(case, "[network]\nhold = 1s\nendpoint = unix:/file\n")
    said = run_forwarder("-o", "network.hold=3s", "--check", "-c", path,
                         "-o", "network.hold=4s", "-n", "unix:/n").stdout
    expect("hold         = 4s" in said and "= unix:/n" in said, said)


@needs()
def each_v_logs_one_level_more(case: Case):
    for options, level in ((["-v"], "debug"), (["-vvv"], "debug"),
                           (["-o", "log.level=error", "-v"], "warn"),
                           (["-o", "log.level=error", "-v", "-v"], "info")):
        said = run_forwarder("--check", "-n", "unix:/x", *options).stdout
        expect(f"level        = {level}\n" in said, f"{options}: {said}")


# --- the command line ---------------------------------------------------------

@needs()
def wrong_command_line_is_one_line_and_64(case: Case):
    for arguments in ([], ["--nonsense"], ["-x"], ["word"], ["-o"],
                      ["-o", "x"], ["--config"], ["-v"], ["--check=x"],
                      ["-o", "a=b"], ["-c"], ["-c", "a", "-c", "b"],
                      ["status"], ["status", "--json", "--prometheus", "x"],
                      ["status", "a", "b"], ["status", "-x"]):
        done = run_forwarder(*arguments)
        expect_equal(f"exit status of {arguments}", done.returncode, EX_USAGE)
        expect_equal(f"lines of {done.stderr!r}",
                     len(done.stderr.splitlines()), 1)
        expect(done.stderr.startswith("forwarder: "), done.stderr)
        expect(done.stderr.endswith("; see \"forwarder --help\"\n"),
               done.stderr)


@needs()
def start_without_a_network_or_a_folder_says_what_to_give(case: Case):
    bare = run_forwarder()
    expect_equal("exit status", bare.returncode, EX_USAGE)
    expect("for example: forwarder -n unix:" in bare.stderr, bare.stderr)
    for arguments in (["-g", f"unixgram:{case.path('guest.sock')}"],
                      ["-c", write(case, "[log]\nlevel = info\n")]):
        told = problems(*arguments)
        expect_equal("problems", len(told), 1)
        expect("-n" in told[0] and "unix:" in told[0], told[0])
    if Path("/run/forwarder").exists():
        return
    done = run_forwarder("-n", "unix:/x")
    expect_equal("exit status", done.returncode, EX_OSERR)
    expect_equal("lines", len(done.stderr.splitlines()), 1)
    expect("-g unixgram:" in done.stderr, done.stderr)


@needs()
def help_speaks_of_this_system_only(case: Case):
    said = run_forwarder("--help").stdout
    expect("socket_vmnet" not in said and "vfkit" not in said
           and "passt" in said, said)


@needs()
def help_and_version_are_given_on_standard_output(case: Case):
    for word, start in (("--help", "Keeps a virtual machine"),
                        ("-h", "Keeps a virtual machine"),
                        ("-V", "forwarder "), ("--version", "forwarder ")):
        done = run_forwarder(word)
        expect_equal("exit status", done.returncode, 0)
        expect(done.stdout.startswith(start) and not done.stderr, done.stdout)


# --- what the system refuses --------------------------------------------------

@needs()
def control_socket_in_use_is_told_and_nothing_is_left(case: Case):
    bridge = Bridge(case)
    guest, listener = case.path("second.sock"), case.path("listener.sock")
    for control, word in ((bridge.forwarder.control, "in use"),
                          (write(case, "precious", "file"), "no socket"),
                          (case.path("missing/control"), "folder")):
        done = run_forwarder("-g", f"unixgram:{guest}",
                             "-n", f"listen-unix:{listener}",
                             "-o", f"control.socket={control}")
        expect_equal("exit status", done.returncode, EX_OSERR)
        lines = done.stderr.splitlines()
        expect_equal(f"lines of {done.stderr!r}", len(lines), 1)
        expect(str(control) in lines[0] and word in lines[0], lines[0])
        expect(not guest.exists(), "expected no guest socket to be left")
        expect(not listener.exists(), "expected no listener to be left")
    expect_equal("the file", case.path("file").read_text(), "precious")
    expect(bridge.status(), "expected the first one to go on")


@needs("plain-build")
def too_little_memory_at_start_is_told_and_nothing_is_left(case: Case):
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


@needs()
def stale_control_socket_is_replaced(case: Case):
    bridge = Bridge(case)
    bridge.forwarder.process.kill()
    expect(bridge.forwarder.control.is_socket(), "expected it to be left")
    again = Process([FORWARDER, "-g", f"unixgram:{bridge.guest_path}",
                     "-n", bridge.daemon.endpoint,
                     "-o", f"control.socket={bridge.forwarder.control}"],
                    case.path("again.log"))
    case.own(again)
    wait_for("an answer", lambda: ask_status(bridge.forwarder.control))
    expect_equal("exit status", again.terminate(1), 0)


@needs()
def control_socket_stands_nonsense(case: Case):
    bridge = Bridge(case)
    for request in (b"nonsense\n", b"x" * 100000, b"\0\xff\n", b""):
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(10)
            asker.connect(str(bridge.forwarder.control))
            try:
                asker.sendall(request)
                asker.shutdown(socket.SHUT_WR)
                asker.recv(1000)
            except (BrokenPipeError, ConnectionResetError):
                pass
        expect(bridge.status(), "expected an answer to a good one")


# --- the log ------------------------------------------------------------------

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "
                  r"(error|warn|info|debug) "
                  r"(guest|link|keepalive|config|control|service): \S.*")


@needs()
def each_event_is_one_line_with_time_level_and_subsystem(case: Case):
    bridge = Bridge(case)
    bridge.meet().close()
    bridge.meet()
    bridge.forwarder.process.signal(signal.SIGHUP)
    bridge.forwarder.process.signal(signal.SIGUSR1)
    bridge.forwarder.process.terminate()
    lines = bridge.forwarder.log_text().splitlines()
    expect(len(lines) > 10, f"expected lines, found {lines}")
    for line in lines:
        expect(LINE.fullmatch(line), f"expected a line of the log: {line!r}")


@needs()
def journal_gets_priorities_instead_of_times(case: Case):
    log = case.path("journal.log")
    with open(log, "wb") as error:
        about = os.fstat(error.fileno())
        stream = f"{about.st_dev}:{about.st_ino}"
        process = subprocess.Popen(
            [FORWARDER, "-g", f"unixgram:{case.path('guest.sock')}",
             "-n", f"unix:{case.path('nobody.sock')}"], stderr=error,
            env={**os.environ, "JOURNAL_STREAM": stream})
    try:
        wait_for("a line", lambda: "started" in log.read_text())
    finally:
        process.terminate()
        process.wait(10)
    for line in log.read_text().splitlines():
        expect(re.match(r"<[3467]>(error|warn|info|debug) \w+: ", line), line)


@needs()
def status_signal_writes_the_status_to_the_log(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    bridge.wait_for_frames(1)
    bridge.forwarder.process.signal(signal.SIGUSR1)
    for start, words in (
            ("info service: status of guest:", [str(case.path("vm.sock"))]),
            ("info service: status of network:",
             ['state="up"', "generation=1"]),
            ("info service: status of guest_to_network:", ["frames=1"]),
            ("info service: status of network_to_guest:", ["frames=1"]),
            ("info service: status of keepalive:", ["mode="])):
        line = bridge.wait_for_line(start)
        for word in words:
            expect(word in line, f"expected {word!r} in: {line}")


# --- reload -------------------------------------------------------------------

class Configured:
    """A forwarder with a file that can change."""

    def __init__(self, case: Case) -> None:
        self.daemon = case.own(FakeDaemon(case.path("net.sock"))).start()
        self.control = case.path("control.sock")
        self.settings = {
            "guest": {"endpoint": f"unixgram:{case.path('guest.sock')}"},
            "network": {"endpoint": self.daemon.endpoint},
            "log": {"level": "info"},
            "control": {"socket": str(self.control)}}
        self.file = case.path("forwarder.ini")
        self.write()
        self.log = case.path("forwarder.log")
        self.process = case.own(Process([FORWARDER, "-c", self.file],
                                        self.log))
        wait_for("the forwarder", lambda: ask_status(self.control))
        self.guest = case.own(guest_on_path(case.path("vm.sock"),
                                            case.path("guest.sock")))

    def write(self) -> None:
        self.file.write_text("".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n"
                                       for key, value in keys.items())
            for section, keys in self.settings.items()))

    def lines(self, start: str) -> list[str]:
        return lines_of(self.log.read_text(), start)

    def reload(self, section: str, key: str, value: str) -> None:
        self.settings.setdefault(section, {})[key] = value
        self.write()
        told = len(self.lines("info config: read again"))
        self.process.signal(signal.SIGHUP)
        wait_for("the reload", lambda: len(
            self.lines("info config: read again")) > told)

    def status(self) -> dict:
        return ask_status(self.control)

    def drops(self, direction: str, reason: str) -> int:
        return self.status()[direction]["drops"][reason]


@needs()
def reload_changes_the_limit_of_frames_at_once(case: Case):
    forwarder = Configured(case)
    connection = case.own(forwarder.daemon.accept())
    forwarder.guest.send(frame(1, 1514))
    expect_equal("frame", number_of(connection.next()), 1)
    forwarder.reload("network", "max_frame", "1000")
    forwarder.guest.send(frame(2, 1001), frame(3, 1000))
    expect_equal("frame", number_of(connection.next()), 3)
    wait_until_equal("oversize", lambda: forwarder.drops(
        "guest_to_network", "oversize"), 1)
    expect_equal("generation", forwarder.status()["network"]["generation"], 1)


@needs()
def reload_changes_hold_in_the_middle_of_an_outage(case: Case):
    forwarder = Configured(case)
    forwarder.reload("network", "hold", "forever")
    connection = forwarder.daemon.accept()
    forwarder.guest.send(frame(1))
    connection.next()
    connection.send(frame(1))
    forwarder.guest.receive()
    forwarder.daemon.stop()
    connection.close()
    wait_for("the outage",
             lambda: forwarder.status()["network"]["state"] == "down")
    forwarder.guest.send(frame(2), frame(3))
    expect_equal("dropped", forwarder.drops("guest_to_network", "outage"), 0)
    forwarder.reload("network", "hold", "0")
    wait_for("the frames to be dropped",
             lambda: forwarder.drops("guest_to_network", "outage") == 2)


@needs()
def reload_moves_to_another_network_at_once(case: Case):
    forwarder = Configured(case)
    first = case.own(forwarder.daemon.accept())
    forwarder.guest.send(frame(1))
    first.next()
    other = case.own(FakeDaemon(case.path("other.sock"))).start()
    forwarder.reload("network", "endpoint", other.endpoint)
    first.expect_end()
    second = case.own(other.accept())
    forwarder.guest.send(frame(2))
    expect_equal("frame", number_of(second.next()), 2)
    expect_equal("endpoint", forwarder.status()["network"]["endpoint"],
                 other.endpoint)


@needs()
def reload_changes_what_is_logged(case: Case):
    forwarder = Configured(case)
    connection = forwarder.daemon.accept()
    forwarder.reload("log", "level", "debug")
    forwarder.daemon.stop()
    connection.close()
    wait_for("a debug line", lambda: forwarder.lines("debug link: dial failed"))


@needs()
def reload_moves_the_control_socket(case: Case):
    forwarder = Configured(case)
    old, forwarder.control = forwarder.control, case.path("moved.sock")
    forwarder.reload("control", "socket", str(forwarder.control))
    expect(forwarder.status(), "expected an answer at the new path")
    expect(not old.exists(), "expected the old socket to be removed")
    forwarder.reload("control", "socket", "")
    expect(not forwarder.control.exists(), "expected no socket any more")


@needs()
def reload_changes_nothing_if_the_new_control_socket_is_refused(case: Case):
    forwarder = Configured(case)
    connection = case.own(forwarder.daemon.accept())
    moved = case.path("missing/x.sock")
    forwarder.settings["control"]["socket"] = str(moved)
    forwarder.settings["network"]["max_frame"] = "1000"
    forwarder.write()
    forwarder.process.signal(signal.SIGHUP)
    wait_for("the refusal", lambda: forwarder.lines(
        "error config: nothing was changed: "))
    expect(forwarder.status(), "expected an answer at the old path")
    forwarder.guest.send(frame(1, 1514))
    expect_equal("frame", number_of(connection.next()), 1)
    # It isn't forgotten, either.
    moved.parent.mkdir()
    old, forwarder.control = forwarder.control, moved
    forwarder.reload("control", "socket", str(moved))
    expect(forwarder.status(), "expected an answer at the new path")
    expect(not old.exists(), "expected the old socket to be removed")


@needs()
def reload_that_the_network_refuses_leaves_no_second_control_socket(case: Case):
    forwarder = Configured(case)
    second = case.path("second.sock")
    forwarder.settings["control"]["socket"] = str(second)
    forwarder.settings["network"]["endpoint"] = \
        f"listen-unix:{case.path('missing/x.sock')}"
    forwarder.write()
    forwarder.process.signal(signal.SIGHUP)
    wait_for("the refusal", lambda: forwarder.lines(
        "error config: nothing was changed: "))
    expect(forwarder.status(), "expected an answer at the old path")
    expect(not second.exists(), "expected no second socket")


@needs()
def reload_keeps_the_guest_endpoint_and_says_so(case: Case):
    forwarder = Configured(case)
    forwarder.reload("guest", "endpoint",
                     f"unixgram:{case.path('other.sock')}")
    expect(forwarder.lines("warn config:"), "expected it to be told")
    expect(not case.path("other.sock").exists(), "expected no second socket")
    expect_equal("endpoint", forwarder.status()["guest"]["endpoint"],
                 f"unixgram:{case.path('guest.sock')}")


@needs()
def reload_changes_the_mode_of_the_guest_socket(case: Case):
    forwarder = Configured(case)
    forwarder.reload("guest", "mode", "0660")
    mode = stat.S_IMODE(case.path("guest.sock").stat().st_mode)
    expect_equal("mode", oct(mode), oct(0o660))


@needs()
def reload_of_a_wrong_file_changes_nothing_and_is_told(case: Case):
    forwarder = Configured(case)
    connection = case.own(forwarder.daemon.accept())
    forwarder.file.write_text("[network]\nmax_frame = 100\nhold = soon\n"
                              "endpont = unix:/nowhere\n")
    forwarder.process.signal(signal.SIGHUP)
    wait_for("the problems", lambda: forwarder.lines(
        "error config: nothing was changed"))
    for line in (f"error config: {forwarder.file}:3: [network] hold",
                 f"error config: {forwarder.file}:4: [network] endpont"):
        expect(forwarder.lines(line), f"expected a line {line!r}")
    forwarder.guest.send(frame(1, 1514))
    expect_equal("frame", number_of(connection.next()), 1)
    expect_equal("endpoint", forwarder.status()["network"]["endpoint"],
                 forwarder.daemon.endpoint)


@needs()
def reload_changes_the_keepalive_mode(case: Case):
    forwarder = Configured(case)
    expect_equal("mode", forwarder.status()["keepalive"]["mode"], "passive")
    forwarder.reload("keepalive", "mode", "peer")
    expect_equal("mode", forwarder.status()["keepalive"]["mode"], "peer")


@needs()
def reload_of_a_fifo_changes_nothing_and_hangs_nothing(case: Case):
    forwarder = Configured(case)
    forwarder.file.unlink()
    os.mkfifo(forwarder.file)
    forwarder.process.signal(signal.SIGHUP)
    wait_for("the problem", lambda: forwarder.lines(
        f"error config: {forwarder.file}: not a regular file"))
    expect(forwarder.lines("error config: nothing was changed"),
           "expected it to be said that nothing was changed")
    expect_equal("exit status", forwarder.process.terminate(5), 0)


@needs()
def start_reads_its_configuration_from_a_pipe(case: Case):
    reader, writer = os.pipe()
    os.write(writer, b"[network]\nendpoint = unix:/piped\n")
    os.close(writer)
    try:
        done = run_forwarder("--check", "-c", f"/dev/fd/{reader}",
                             pass_fds=[reader])
        expect("endpoint     = unix:/piped\n" in done.stdout, done)
    finally:
        os.close(reader)


# --- status -------------------------------------------------------------------

COUNTER = int
SHAPE = {
    "name": str, "version": str, "pid": COUNTER, "uptime_ms": COUNTER,
    "guest": {"endpoint": str, "peer": str, "mac": str},
    "network": {"endpoint": str, "state": str, "generation": COUNTER,
                "outages": COUNTER, "down_ms": COUNTER,
                "last_outage_ms": COUNTER, "dials": COUNTER,
                "last_error": str},
    "guest_to_network": {
        "frames": COUNTER, "bytes": COUNTER,
        "drops": {"outage": COUNTER, "oversize": COUNTER, "runt": COUNTER,
                  "empty": COUNTER, "guest_restarted": COUNTER}},
    "network_to_guest": {
        "frames": COUNTER, "bytes": COUNTER,
        "drops": {"guest_slow": COUNTER, "guest_absent": COUNTER,
                  "runt": COUNTER, "empty": COUNTER, "truncated": COUNTER,
                  "oversize": COUNTER}},
    "keepalive": {"mode": str, "armed": bool, "idle_ms": COUNTER,
                  "probes": COUNTER, "replies": COUNTER, "answered": COUNTER,
                  "deaths": COUNTER, "write_stalls": COUNTER,
                  "rtt_us": COUNTER},
}


def expect_shape(found: object, shape: object, where: str) -> None:
    """More fields are welcome, those of the shape are fixed."""
    if not isinstance(shape, dict):
        expect(type(found) is shape, f"expected {shape} at {where}: {found!r}")
        expect(shape is not COUNTER or found >= 0, f"negative: {where}")
        return
    for key, inner in shape.items():
        expect(key in found, f"expected {key} in {where}")
        expect_shape(found[key], inner, f"{where}.{key}")


@needs()
def status_as_json_has_every_promised_field(case: Case):
    bridge = Bridge(case)
    expect_shape(bridge.status(), SHAPE, "status")
    bridge.meet()
    status = bridge.status()
    expect_shape(status, SHAPE, "status")
    expect_equal("pid", status["pid"], bridge.pid)
    expect_equal("guest", status["guest"], {
        "endpoint": f"unixgram:{bridge.guest_path}",
        "peer": str(case.path("vm.sock")), "mac": MAC.hex(":")})
    expect_equal("state", status["network"]["state"], "up")
    expect_equal("generation", status["network"]["generation"], 1)


@needs()
def status_counts_what_happened_in_an_outage(case: Case):
    bridge = Bridge(case)
    connection = bridge.meet()
    bridge.daemon.stop()
    connection.close()
    wait_for("a failed dial to be the last error", lambda: bridge.status()
             ["network"]["last_error"] == "Connection refused")
    down = bridge.status()["network"]
    expect_equal("state", down["state"], "down")
    expect_equal("outages", down["outages"], 1)
    wait_for("the time to be counted", lambda: bridge.status()
             ["network"]["down_ms"] > down["down_ms"])
    bridge.daemon.start()
    bridge.meet()
    up = bridge.status()["network"]
    expect(0 < up["last_outage_ms"] <= up["down_ms"], f"outage: {up}")
    expect_equal("generation", up["generation"], 2)


@needs()
def status_for_people_names_both_ends(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    done = run_forwarder("status", bridge.forwarder.control)
    expect_equal("exit status", done.returncode, 0)
    for word in (str(bridge.guest_path), str(case.path("vm.sock")),
                 bridge.daemon.endpoint, MAC.hex(":"), " up\n"):
        expect(word in done.stdout, f"expected {word!r} in:\n{done.stdout}")


@needs()
def status_finds_its_forwarder_by_the_configuration(case: Case):
    forwarder = Configured(case)
    done = run_forwarder("status", "-c", forwarder.file, "--json")
    expect_equal("pid", json.loads(done.stdout)["pid"], forwarder.process.pid)


SAMPLE = re.compile(r'(forwarder_[a-z_]+)\{name="([^"]*)"((?:,[a-z_]+="[^"]*")*)'
                    r'\} \d+(\.\d+)?')


def metrics_of(case: Case, name: str) -> list[str]:
    """What a forwarder with a configuration file of this name says."""
    control = case.path(f"{name}.control")
    path = write(case, f"""\
[guest]
endpoint = unixgram:{case.path(f"{name}.sock")}
[network]
endpoint = unix:{case.path("nobody.sock")}
[control]
socket = {control}
""", f"{name}.ini")
    case.own(Process([FORWARDER, "-c", path], case.path(f"{name}.log")))
    wait_for("the forwarder", lambda: ask_status(control))
    expect_equal("name", ask_status(control)["name"], name)
    return run_forwarder("status", control,
                         "--prometheus").stdout.splitlines()


@needs()
def metrics_of_two_forwarders_can_stand_side_by_side(case: Case):
    """As node_exporter's textfile collector has them: a series may come once,
    and a metric has one description in all files."""
    series, families = set(), {}
    for name in ("vm1", "vm2"):
        for line in metrics_of(case, name):
            if line.startswith("#"):
                key = tuple(line.split()[1:3])
                expect_equal(line, families.setdefault(key, line), line)
                continue
            sample = SAMPLE.fullmatch(line)
            expect(sample, f"expected a sample with a name: {line}")
            expect_equal("name", sample.group(2), name)
            expect(sample.groups()[:3] not in series, f"a second {line}")
            series.add(sample.groups()[:3])
    expect(len(series) > 50, f"expected the series of two: {series}")


@needs()
def name_is_on_every_line_of_the_log_when_it_is_set(case: Case):
    forwarder = Configured(case)
    forwarder.reload("service", "name", "vm1")
    forwarder.process.signal(signal.SIGUSR1)
    wait_for("the status", lambda:
             "status of keepalive" in forwarder.log.read_text())
    forwarder.process.terminate()
    lines = forwarder.log.read_text().splitlines()
    named = [line.endswith(" name=vm1") for line in lines]
    expect(not named[0], f"expected no name at first: {lines[0]}")
    expect(named.count(True) >= 6 and all(named[named.index(True):]),
           f"expected a name on each line: {lines}")


@needs()
def peers_path_cannot_forge_a_key_in_the_log(case: Case):
    bridge = Bridge(case)
    bridge.accept()
    forger = case.own(guest_on_path(
        case.path('x" mac=02:00:00:00:00:01 y'), bridge.guest_path))
    forger.send(frame(1))
    line = bridge.wait_for_line("info guest: found ")
    expect(line.endswith(f'peer="{case.folder}/x\\" mac=02:00:00:00:00:01 y"'),
           f"expected quotes: {line}")


@needs()
def status_watched_without_a_terminal_is_lines(case: Case):
    bridge = Bridge(case)
    bridge.meet()
    watch = case.own(Process(
        [FORWARDER, "status", bridge.forwarder.control, "--watch"],
        case.path("watch.log")))
    lines = wait_for("two lines", lambda: (
        found := case.path("watch.log").read_text().splitlines())
        and len(found) >= 2 and found)
    for line in lines:
        expect(" up outages=0 " in line and "frames/s" in line
               and "\x1b" not in line, f"expected a plain line: {line!r}")
    expect_equal("exit status", watch.terminate(2), 0)


@needs()
def status_ends_with_69_when_nobody_answers(case: Case):
    path = case.path("missing.sock")
    for form in ((), ("--json",), ("--prometheus",), ("--watch",)):
        done = run_forwarder("status", path, *form)
        expect_equal("exit status", done.returncode, EX_UNAVAILABLE)
        expect_equal("standard output", done.stdout, "")
        lines = done.stderr.splitlines()
        expect(len(lines) == 1 and f"{path}: No such file" in lines[0],
               f"expected one clear line: {lines}")
