"""Completion of the command line, typed at the terminal of a real shell that
finds the installed files by itself."""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import subprocess
from pathlib import Path

from forwarder import run_forwarder
from harness import (NEEDS, Case, die_with_parent, expect, expect_equal,
                     lacks_program, needs, wait_for)
from install_test import install

BASH = Path("/usr/share/bash-completion/bash_completion")
NEEDS["bash"] = lambda: None if BASH.exists() else f"{BASH} (bash-completion)"
NEEDS["zsh"] = lacks_program("zsh", "zsh")
NEEDS["fish"] = lacks_program("fish", "fish")

BEGINNING, END = "\x01", "\x05"


class Shell:
    """An interactive shell. Its home is the case's folder."""

    def __init__(self, case: Case, name: str) -> None:
        self.case = case
        self.answers = 0
        share = install(case) / "usr/share"
        case.path(".bashrc").write_text(f". {BASH}\n")
        case.path(".zshrc").write_text(
            f"fpath=('{share}/zsh/site-functions' $fpath)\n"
            "autoload -U compinit; compinit -u -D; bindkey -e\n")
        # Without this folder, fish makes completion from all manual pages.
        case.path(".local/share/fish/generated_completions").mkdir(parents=True)
        self.master, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [name, "-i"], stdin=terminal, stdout=terminal, stderr=terminal,
            cwd=case.folder, preexec_fn=lambda: (os.login_tty(terminal),
                                                 die_with_parent()),
            env={"PATH": f"{share.parent}/bin:{os.environ['PATH']}",
                 "HOME": str(case.folder),
                 "TERM": "vt100", "LANG": "C.UTF-8",
                 "XDG_DATA_DIRS": f"{share}:/usr/share",
                 "XDG_RUNTIME_DIR": str(case.path("run"))})
        os.close(terminal)

    def read(self) -> None:
        while select.select([self.master], [], [], 0)[0]:
            with open(self.case.path("terminal"), "ab") as log:
                log.write(os.read(self.master, 4096))

    def complete(self, line: str) -> list[str]:
        """Types the line, a tab and an X. Returns the words of the line then,
        which shows whether a blank was added."""
        self.answers += 1
        answer = self.case.path(f"answer{self.answers}")
        os.write(self.master, (
            f"{line}\tX{END} >{answer}.new && mv {answer}.new {answer}"
            f"{BEGINNING}printf '%s\\n' \r").encode())

        def is_there() -> bool:
            self.read()
            return answer.exists()
        wait_for(f"an answer for {line!r}", is_there)
        return answer.read_text().splitlines()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


# What is typed, and what the shell makes of it. An X follows.
COMPLETED = (
    ("forwarder stat", "forwarder status X"),
    ("forwarder --verb", "forwarder --verbose X"),
    ("forwarder -c ./settings.i", "forwarder -c ./settings.ini X"),
    ("forwarder --config ./settings.i", "forwarder --config ./settings.ini X"),
    ("forwarder --config=./settings.i", "forwarder --config=./settings.ini X"),
    ("forwarder -g ta", "forwarder -g tap:X"),
    ("forwarder -g unixgram:./fold", "forwarder -g unixgram:./folder/X"),
    ("forwarder -v -n listen-u", "forwarder -v -n listen-unix:X"),
    ("forwarder --network=listen-t", "forwarder --network=listen-tcp:X"),
    ("forwarder -n unix:./folder/net", "forwarder -n unix:./folder/net.sock X"),
    ("forwarder -o keepalive.tcp_in", "forwarder -o keepalive.tcp_interval=X"),
    ("forwarder -o network.announce=y", "forwarder -o network.announce=yes X"),
    ("forwarder -o guest.endpoint=unixgram:./fold",
     "forwarder -o guest.endpoint=unixgram:./folder/X"),
    ("forwarder status --pro", "forwarder status --prometheus X"),
    ("forwarder status run/forwarder/vm1/c",
     "forwarder status run/forwarder/vm1/control.sock X"),
    ("forwarder -n unix:x -- mkdi", "forwarder -n unix:x -- mkdir X"),
    ("forwarder -n unix:x -- cat ./settings.i",
     "forwarder -n unix:x -- cat ./settings.ini X"),
)


def options_of_the_help() -> set[tuple[str, str]]:
    """(what comes before it, the name) of each option with a name."""
    words, found = "forwarder", set()
    for line in run_forwarder("--help").stdout.splitlines():
        if command := re.match(r"([a-z]+): \S", line):
            words = f"forwarder {command[1]}"
        if option := re.match(r" +(?:-\w, )?(--[a-z-]+)( [A-Z]|  |$)", line):
            found.add((words, option[1]))
    return found


def check(case: Case, name: str) -> None:
    case.path("settings.ini").touch()
    case.path("folder").mkdir()
    case.path("run/forwarder/vm1").mkdir(parents=True)
    for path in ("folder/net.sock", "run/forwarder/vm1/control.sock"):
        case.own(socket.socket(socket.AF_UNIX)).bind(str(case.path(path)))
    shell = case.own(Shell(case, name))
    for typed, wanted in COMPLETED:
        expect_equal(f"{name}: {typed}", shell.complete(typed), wanted.split())
    sockets = shell.complete(f"forwarder status {case.path('run/for')}")
    expect_equal("a control socket", sockets[2:], [
        f"{case.path('run/forwarder/vm1/control.sock')}", "X"])
    options = options_of_the_help()
    expect({("forwarder", "--check"), ("forwarder status", "--json")} < options,
           f"expected options of each kind in the help: {options}")
    for words, option in options:
        # zsh shows that a value follows, and removes the sign before a blank.
        found = shell.complete(f"{words} {option[:-1]}")
        expect_equal(f"{name}: {words} {option}",
                     " ".join(found).replace("=", " "), f"{words} {option} X")


@needs("bash")
def bash_completes_options_keys_and_endpoints(case: Case):
    check(case, "bash")


@needs("zsh")
def zsh_completes_options_keys_and_endpoints(case: Case):
    check(case, "zsh")


@needs("fish")
def fish_completes_options_keys_and_endpoints(case: Case):
    check(case, "fish")
