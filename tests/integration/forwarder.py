"""The program under test: starts, reloads, stops it, and reads its status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from signal import SIGHUP, SIGTERM
from typing import Optional, Sequence

from harness import (FORWARDER, SECONDS, Case, Failure, Namespace, Process,
                     expect, expect_equal, wait_for, wait_until)

# In the path of a value of the status.
SHORT = {"up": "guest_to_network", "down": "network_to_guest"}


def ask_status(control: Path) -> Optional[dict]:
    """None if no forwarder answers."""
    done = run_forwarder("status", control, "--json")
    if done.returncode != 0:
        return None
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Failure(f"expected JSON from status, found: {done.stdout!r}")


def run_forwarder(*arguments, program: Path = FORWARDER, **options
                  ) -> subprocess.CompletedProcess:
    """Runs it until it ends: for help, checks, errors and status."""
    return subprocess.run([str(program), *map(str, arguments)],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=SECONDS, **options)


def expect_refused(done: subprocess.CompletedProcess, status: int,
                   *words: object) -> str:
    """It ended with this status and one line of error with all the words."""
    expect_equal(f"exit status of {done.args}", done.returncode, status)
    lines = done.stderr.splitlines()
    expect_equal(f"lines of {done.stderr!r}", len(lines), 1)
    for word in words:
        expect(str(word) in lines[0], f"expected {word!r} in: {lines[0]}")
    return lines[0]


class Forwarder:
    """A forwarder with a configuration file in the case's folder. It answers
    on its control socket when the constructor returns.

    options   SECTION.KEY=VALUE
    before    a command line that the forwarder's is appended to
    after     what follows its options
    host      the network namespace it runs in
    identity  another user, who may not read the build folder: runs a copy
    """

    def __init__(self, case: Case, network: str, guest: str,
                 options: Sequence[str] = (), *, name: str = "forwarder",
                 before: Sequence = (), after: Sequence = (),
                 host: Optional[Namespace] = None,
                 identity: Optional[dict] = None, **process) -> None:
        self.case, self.name = case, name
        self.log = case.path(f"{name}.log")
        self.file = case.path(f"{name}.ini")
        self.settings = {"network.endpoint": network, "guest.endpoint": guest,
                         "log.level": "debug",
                         "control.socket": str(case.path(f"{name}.control"))}
        self.configure(*options)
        program = FORWARDER
        if identity:
            program = shutil.copy(FORWARDER, case.path(f"{name}-program"))
            os.chmod(program, 0o755)
        line = [*before, program, "-c", self.file, *after]
        self.process = case.own(Process(host.enter(*line) if host else line,
                                        self.log, **process, **identity or {}))
        wait_for(f"{name} to answer on its control socket",
                 lambda: not self.process.alive() or ask_status(self.control))
        expect(self.process.alive(), f"expected {name} to start")

    def configure(self, *options: str) -> None:
        """Only writes the file. A key with an empty value is left out."""
        self.settings.update(option.split("=", 1) for option in options)
        text = ""
        for name in filter(self.settings.get, sorted(self.settings)):
            section, _, key = name.partition(".")
            text += f"[{section}]\n{key} = {self.settings[name]}\n"
        self.file.write_text(text)

    @property
    def control(self) -> Path:
        return Path(self.settings["control.socket"])

    @property
    def pid(self) -> int:
        return self.process.pid

    # --- status and log -------------------------------------------------------

    def status(self) -> dict:
        answer = ask_status(self.control)
        expect(answer, "expected the forwarder to answer")
        return answer

    def value(self, path: str):
        """Of the status: "network.state", "up.drops.outage"."""
        value = self.status()
        for key in path.split("."):
            value = value[SHORT.get(key, key)]
        return value

    def until(self, path: str, wanted: object, seconds: float = 10):
        """Waits until the status has the wanted value, or one that `wanted`
        accepts. Use it to check a value, too: a frame is counted a moment
        after the test can receive it."""
        return wait_until(path, lambda: self.value(path), wanted, seconds)

    def until_dropped(self, count: int, reason: str) -> None:
        self.until(reason, lambda found: found >= count)
        expect_equal(reason, self.value(reason), count)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def lines(self, start: str) -> list[str]:
        """The lines that start so, without their time stamps."""
        lines = (line.partition(" ")[2] for line in self.log_text().splitlines())
        return [line for line in lines if line.startswith(start)]

    def until_line(self, start: str, *words: object, count: int = 1,
                   seconds: float = 10) -> str:
        """Until there are so many lines; the last of them has the words."""
        line = wait_for(f"{count} lines {start!r}",
                        lambda: self.lines(start)[count - 1:], seconds)[-1]
        for word in words:
            expect(str(word) in line, f"expected {word!r} in: {line}")
        return line

    def until_lines(self, start: str, count: int) -> None:
        """Until there are so many, and then no more: the log is written by a
        thread of its own."""
        self.until_line(start, count=count)
        expect_equal(f"lines {start!r}", len(self.lines(start)), count)

    # --- signals and reloads --------------------------------------------------

    def signal(self, number: int) -> None:
        self.process.signal(number)

    def reload(self, *options: str) -> None:
        """Changes the file and waits until the forwarder has read it."""
        self.configure(*options)
        told = len(self.lines("info config: read again"))
        self.signal(SIGHUP)
        self.until_line("info config: read again", count=told + 1)

    def refuse_reload(self, *options: str) -> None:
        """A reload that the forwarder must refuse. The next one starts from
        the settings before it."""
        kept = dict(self.settings)
        told = len(self.lines("error config: nothing was changed"))
        self.configure(*options)
        self.signal(SIGHUP)
        self.until_line("error config: nothing was changed", count=told + 1)
        self.settings = kept

    def stop(self, number: int = SIGTERM) -> None:
        """It must end with status 0 within a second and leave no socket."""
        started = time.monotonic()
        self.process.signal(number)
        expect_equal("exit status", self.process.wait(5), 0)
        took = time.monotonic() - started
        expect(took < 1, f"expected an end within 1 s, it took {took:.2f} s")
        for key, kinds in (("control.socket", [""]),
                           ("guest.endpoint", ["unixgram", "listen-unix"]),
                           ("network.endpoint", ["listen-unix"])):
            kind, _, path = self.settings[key].rpartition(":")
            if kind in kinds:
                expect(not path or not Path(path).exists(),
                       f"expected {path} to be removed")

    def close(self) -> None:
        self.process.close()
