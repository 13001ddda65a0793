"""`forwarder status` of many: one table, one JSON array, one Prometheus text;
exit codes, and the history of outages."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path
from signal import SIGSTOP

from forwarder import run_forwarder
from harness import (FORWARDER, Case, Process, expect, expect_equal, needs,
                     wait_until)
from peers import Bridge, run_as_nobody

HOSTILE = b'x\n\x1b[2Jforwarder_up{name="vm1"} 1\n{"name":"vm1"}\n\n'


def in_folder(case: Case, name: str, *options: str) -> Bridge:
    """A forwarder with its control socket at run/NAME/control.sock."""
    folder = case.path(f"run/{name}")
    folder.mkdir(parents=True)
    return Bridge(case.corner(name), [f"control.socket={folder}/control.sock",
                                      f"service.name={name}", *options])


class Stranger:
    """A socket in the place of a control socket that says the same to all."""

    def __init__(self, folder: Path, said: bytes) -> None:
        folder.mkdir(parents=True)
        self.said = said
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(folder / "control.sock"))
        self.socket.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
                with client:
                    client.recv(100)
                    client.sendall(self.said)
            except BrokenPipeError:
                continue
            except OSError:
                return

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def expect_accepted(metrics: str) -> None:
    check = subprocess.run(["promtool", "check", "metrics"], text=True,
                           input=metrics, capture_output=True)
    expect_equal("promtool", (check.returncode, check.stdout, check.stderr),
                 (0, "", ""))


def ask_all(case: Case, *options: str):
    return run_forwarder("status", "--all", case.path("run"), *options)


@needs("promtool")
def all_forwarders_are_shown_in_each_form_whoever_else_is_there(case: Case):
    up = in_folder(case, "vm1")
    up.lose(up.meet())
    up.come_back()
    down = in_folder(case, "vm2")
    down.lose(down.meet())
    killed = in_folder(case, "vm3")
    killed.process.kill()
    case.own(Stranger(case.path("run/vm4"), HOSTILE))
    liar = json.dumps(up.status(), separators=(",", ":")) + "\n\n"
    case.own(Stranger(case.path("run/aaa"), liar.encode()))
    case.own(Stranger(case.path("run/vm5"), b"x" * 1000000))

    table = ask_all(case)
    lines = table.stdout.splitlines()
    expect_equal("exit status", table.returncode, 0)
    expect_equal("rows", [line.split()[:2] for line in lines[:3]],
                 [["NAME", "STATE"], ["vm1", "up"], ["vm1", "up"]])
    expect_equal("row of vm2", lines[3].split()[:3], ["vm2", "down", "1"])
    expect_equal("the rest", lines[4:], [
        "vm3   no answer: Connection refused",
        "vm4   no answer: the reply is not a forwarder's",
        "vm5   no answer: the reply is not a forwarder's",
        "2 up, 1 down, 3 without an answer"])

    array = json.loads(ask_all(case, "--json").stdout)
    expect_equal("names", [one["name"] for one in array],
                 ["vm1", "vm1", "vm2", "vm3", "vm4", "vm5"])
    expect_equal("object", array[0]["pid"], up.pid)
    expect_equal("error", array[3]["error"], "Connection refused")

    metrics = ask_all(case, "--prometheus")
    expect("is also named vm1" in metrics.stderr, metrics.stderr)
    expect_accepted(metrics.stdout)
    expect_equal("up", [line for line in metrics.stdout.splitlines()
                        if line.startswith("forwarder_up{")],
                 [f'forwarder_up{{name="vm{number}"}} {int(number == 1)}'
                  for number in range(1, 6)])
    expect_equal("worst", ask_all(case, "--exit-code").returncode, 69)


@needs("promtool")
def the_metrics_of_one_are_accepted_by_promtool(case: Case):
    bridge = in_folder(case, "vm1")
    bridge.lose(bridge.meet())
    expect_accepted(
        run_forwarder("status", bridge.control, "--prometheus").stdout)


@needs()
def exit_code_tells_whether_all_are_up(case: Case):
    first, second = in_folder(case, "vm1"), in_folder(case, "vm2")
    connection = first.meet()
    second.meet()

    def codes() -> tuple:
        one = run_forwarder("status", first.control, "--exit-code")
        return one.returncode, ask_all(case, "--exit-code").returncode
    expect_equal("both up", codes(), (0, 0))
    first.lose(connection)
    expect_equal("one down", codes(), (1, 1))
    first.process.kill()
    expect_equal("one killed", codes(), (69, 69))
    first.control.unlink()
    expect_equal("one left", codes(), (69, 0))


@needs()
def a_hundred_are_asked_at_once_and_the_stuck_ones_cost_two_seconds(case: Case):
    hundred = []
    for number in range(100):
        folder = case.path(f"run/vm{number:02}")
        folder.mkdir(parents=True)
        hundred.append(case.own(Process(
            [FORWARDER, "-g", f"unixgram:{folder}/guest.sock",
             "-n", f"unix:{folder}/net.sock", "-o", f"service.name=vm{number:02}",
             "-o", f"control.socket={folder}/control.sock"],
            folder / "log")))
    wait_until("the last line",
               lambda: ask_all(case).stdout.splitlines()[-1:],
               ["0 up, 100 down, 0 without an answer"], 20)
    started = time.monotonic()
    expect_equal("exit status", ask_all(case, "--exit-code").returncode, 1)
    expect(time.monotonic() - started < 1, "100 took more than a second")
    for process in hundred[:10]:
        process.signal(SIGSTOP)
    started = time.monotonic()
    table = ask_all(case).stdout
    took = time.monotonic() - started
    for process in hundred:
        process.kill()
    expect(1.9 < took < 3, f"100, 10 of them stuck, took {took:.2f} s")
    expect("\nvm09  no answer: Connection timed out\nvm10  down " in table, table)
    expect("\n0 up, 90 down, 10 without an answer\n" in table, table)


@needs()
def the_history_tells_when_and_why_each_outage_began(case: Case):
    bridge = in_folder(case, "vm1")
    began = time.time()
    bridge.lose(bridge.meet())
    connection = bridge.come_back()
    connection.close()
    bridge.until("network.generation", lambda number: number > 2)
    newest = bridge.value("history")[-1]
    expect_equal("reason", newest["reason"], "peer closed")
    expect(newest["dials"] > 0, f"no dials: {newest}")
    at = datetime.fromisoformat(newest["began"].replace("Z", "+00:00"))
    expect(began - 1 < at.timestamp() < time.time(), newest["began"])
    expect(f"{newest['began']}  " in run_forwarder(
        "status", bridge.control).stdout, "expected it in the text")


@needs("root")
def others_may_ask_if_the_mode_of_the_control_socket_lets_them(case: Case):
    bridge = in_folder(case, "vm1", "control.mode=0666")
    case.folder.chmod(0o755)
    expect_equal("exit status", run_as_nobody(
        case, "status", bridge.control).returncode, 0)
    bridge.reload("control.mode=0600")
    refused = run_as_nobody(case, "status", "--all", case.path("run"))
    expect_equal("exit status", refused.returncode, 69)
    expect("vm1   no answer: Permission denied\n" in refused.stdout,
           refused.stdout)
