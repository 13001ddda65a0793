"""The commands of README.md and docs/recipes.md work as they are written.

Each block of them is marked in the page, in a comment that readers don't see:

    <!-- run: NAME -->          a test below runs it
    <!-- output: NAME -->       what a program prints; NAME says which
    <!-- not run: REASON -->    and the text around it says so, too

Empty lines in a block separate terminals. In the README's table the last column
says the same: "run", "stand-in" if the daemon is another program here, or the system
that is missing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, NamedTuple, Optional

from daemons import Passt
from forwarder import ask_status, run_forwarder
from harness import (FORWARDER, ROOT, Case, Failure, Namespace, Process,
                     expect, expect_equal, needs, wait_for)
from netns import Host, Switch
from peers import NOBODY
from vm import IMAGE

README = ROOT / "README.md"
RECIPES = ROOT / "docs/recipes.md"
TESTED = {"run", "stand-in"}
UNTESTED = {"macOS"}
SHORT = "qemu-system-x86_64 ..."
LONG = '"${vm[@]}" -device virtio-net-pci,netdev=n0'

# What Debian lacks: passt at gvproxy's socket, and as strict about it; QEMU's
# own network at vmnet-helper's.
STAND_INS = {
    "gvproxy": """#!/bin/sh
path=${2#unix://}
[ ! -e "$path" ] && exec passt --foreground --socket "$path"
""",
    "vmnet-helper": """#!/bin/sh
exec qemu-system-x86_64 -machine none -nodefaults -display none \\
    -netdev dgram,id=n0,local.type=fd,local.str=$2 -netdev user,id=n1 \\
    -netdev hubport,id=p0,hubid=0,netdev=n0 \\
    -netdev hubport,id=p1,hubid=0,netdev=n1
"""}


# --- the pages ----------------------------------------------------------------

class Block(NamedTuple):
    place: str
    mark: str  # "run", "output", "not run", or "" if there is none
    name: str
    text: str

    def terminals(self) -> list[str]:
        return self.text.split("\n\n")


def blocks(page: Path) -> list[Block]:
    """All that is indented or fenced, with its mark."""
    pattern = (r"(?:<!-- (run|output|not run): (.+) -->\n|^.*\n)"
               r"((?:^    .+\n(?:\n(?=    ))?)+|^```\n(?:.*\n)*?^```\n)")
    text = page.read_text()
    return [Block(f"{page.name}:{text.count(chr(10), 0, found.start(3)) + 1}",
                  found[1] or "", found[2] or "",
                  re.sub("^    ", "", found[3], flags=re.M).rstrip())
            for found in re.finditer(pattern, text, re.M)]


def block(page: Path, name: str) -> Block:
    return next(b for b in blocks(page) if b.name == name)


def has_vm(block: Block) -> bool:
    return "${vm[@]}" in block.text


def table() -> list[tuple[list[str], str]]:
    """The commands of each row, and its last column."""
    return [(re.findall("`([^`]+)`", row.split("|")[3]), row.split("|")[4].strip())
            for row in re.findall(r"^\|.*\| command \| \|\n\|[-|]+\n((?:\|.*\n)+)",
                                  README.read_text(), re.M)[0].splitlines()]


# --- a user's terminals -------------------------------------------------------

class User:
    """A clone with a build, and terminals in it: of an ordinary user, on a host
    whose default route leads nowhere, or of that namespace's root."""

    def __init__(self, case: Case, root_of: Optional[Namespace] = None) -> None:
        self.case = case
        self.clone = Path(tempfile.mkdtemp(prefix="clone-", dir=case.folder))
        self.private = self.clone / "run/vm1"
        shutil.copytree(IMAGE, self.clone / "build/guest")
        shutil.copy(FORWARDER, self.clone / "build/forwarder")
        self.programs = self.clone / "bin"
        self.programs.mkdir()
        (self.programs / "socket_vmnet_client").symlink_to("../build/forwarder")
        for name, text in STAND_INS.items():
            (self.programs / name).write_text(text)
            (self.programs / name).chmod(0o755)
        if root_of:
            self.prefix = root_of.enter()
            return
        host = case.own(Passt(case.folder)).namespace
        self.prefix = host.enter()
        if os.geteuid() == 0:  # becomes another user, and enters the network
            self.prefix = ["nsenter", f"--net=/proc/{host.pid}/ns/net",
                           "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
                           "--clear-groups", "--inh-caps=-all"]
            case.folder.chmod(0o755)
            for path in (self.clone, *self.clone.rglob("*")):
                os.lchown(path, NOBODY, NOBODY)

    def open(self, commands: str) -> Process:
        """A terminal. Its last command replaces the shell."""
        definitions = block(README, "definitions").text
        lines = commands.replace(SHORT, LONG).replace("\\\n", "").splitlines()
        script = "\n".join([definitions, *lines[:-1], f"exec {lines[-1]}"])
        return self.case.own(Process(
            [*self.prefix, "bash", "-c", script],
            self.case.path(f"{len(self.case.logs())}.log"), cwd=self.clone,
            env={"PATH": f"{self.programs}:{os.environ['PATH']}",
                 "XDG_RUNTIME_DIR": str(self.clone / "run")}))

    def start_daemon(self) -> Process:
        return self.open(block(README, "daemon").text)

    def expect_address(self, commands: list[str]) -> None:
        """The guest, whose command is the last one, gets an address."""
        terminals = [self.open(command) for command in commands]
        try:
            until_address(terminals[-1])
        except Failure as failure:
            raise Failure(f"{commands[-1]}\n{failure}") from failure
        for terminal in reversed(terminals):
            terminal.close()


def until_address(terminal: Process) -> None:
    """The guest's console says that it has one."""
    def has_address() -> bool:
        expect(terminal.alive(), "expected the guest to run")
        return "lease of" in terminal.log.read_text(errors="replace")
    wait_for("the guest to get its address", has_address, 60)


# --- the pages are complete ---------------------------------------------------

@needs()
def every_command_of_the_pages_is_run_or_marked(case: Case):
    found = blocks(README) + blocks(RECIPES)
    for b in found:
        expect(b.mark, f"{b.place}: expected a mark above the block")
    names = {b.name for b in found if b.mark == "run" and not has_vm(b)}
    expect_equal("other blocks that are run", names,
                 {"definitions", "daemon", "opening", "hosts", "service"})
    for commands, verdict in table():
        expect(verdict in TESTED | UNTESTED, f"{commands}: {verdict}?")


@needs("guest", "namespaces")
def commands_that_cannot_run_here_are_valid(case: Case):
    """As far as this program's own part goes."""
    user = User(case)
    texts = [text for b in blocks(README) + blocks(RECIPES)
             if b.mark == "not run" for text in b.terminals()]
    texts += [text for commands, _ in table() for text in commands]
    for text in texts:
        line = text.replace("\\\n", "").splitlines()[-1]
        if line.startswith("forwarder "):
            options = line.partition(" -- ")[0].removeprefix("forwarder")
            terminal = user.open(f"forwarder --check {options}")
            expect_equal(f"status of {line}", terminal.wait(), 0)


@needs()
def every_claim_names_a_test_that_exists(case: Case):
    text = README.read_text() + (ROOT / "docs/claims.md").read_text()
    titles = subprocess.run([ROOT / "tests/integration/run", "--list"],
                            check=True, stdout=subprocess.PIPE, text=True).stdout
    for words in re.findall(r"make test ARGS=('[^']+'|\S+)`", text):
        for word in words.strip("'").split():
            expect(word in titles, f"no test for {word!r}")
    for suite in re.findall(r"make unit T=(\w+)", text):
        expect((ROOT / f"tests/{suite}_test.c").exists(), f"no suite {suite}")


# --- the commands -------------------------------------------------------------

def without_values(line: str) -> str:
    """'warn link: lost reason="peer closed" generation=1' is 'warn link: lost
    reason generation'."""
    return re.sub(r'=("[^"]*"|\S+)', "", line.partition(" ")[2])


def first_word(line: str) -> str:
    """A section, a key, or the day of an outage."""
    return re.sub(r"\d", "0", line.strip().partition(" ")[0])


def expect_shown(simplify: Callable[[str], str], output: Path,
                 sample: Block) -> None:
    """The lines of the sample are in the output, in this order."""
    lines = map(simplify, output.read_text(errors="replace").splitlines())
    for line in sample.text.splitlines():
        expect(simplify(line) in lines, f"{sample.place}: not shown: {line}")


@needs("guest", "passt", "namespaces", limit=120)
def opening_command_prints_what_the_readme_shows(case: Case):
    user = User(case)
    control = user.private / "control.sock"
    terminal = user.open(block(README, "opening").text.replace(
        "forwarder ", f"forwarder -o control.socket={control} "))
    until_address(terminal)
    os.kill(ask_status(control)["network"]["daemon"]["pid"], signal.SIGKILL)
    wait_for("another daemon", lambda: " generation=2 outage=" in
             terminal.log.read_text(errors="replace"))
    expect_shown(without_values, terminal.log, block(README, "log"))
    status = case.path("status")
    status.write_text(run_forwarder("status", control).stdout)
    expect_shown(first_word, status, block(README, "status"))
    expect_equal("exit status", terminal.terminate(), 0)


def plain(commands: str) -> str:
    """In the form in which the table and the recipes have the same text."""
    words = commands.replace(SHORT, LONG).replace("\\\n", "").split()
    return " ".join(words).replace(" -o control.socket=$d/control.sock", "")


@needs("guest", "passt", "namespaces", limit=300)
def commands_of_the_table_give_the_guest_its_address(case: Case):
    """Those that are in no recipe: the next test runs the others."""
    user = User(case)
    user.start_daemon()
    recipes = plain(" ".join(b.text for b in blocks(RECIPES) if b.mark == "run"))
    for commands, verdict in table():
        if verdict in TESTED and not all(plain(command) in recipes
                                         for command in commands):
            user.expect_address(commands)


@needs("guest", "passt", "namespaces", limit=300)
def recipes_give_the_guest_its_address(case: Case):
    user = User(case)
    for recipe in blocks(RECIPES):
        if recipe.mark == "run" and has_vm(recipe):
            user.expect_address(recipe.terminals())
            shutil.rmtree(user.private)


@needs("busybox", "guest", "namespaces", "tun")
def two_hosts_reach_each_other(case: Case):
    left, right, address = block(RECIPES, "hosts").terminals()
    switch = case.own(Switch())
    hosts = [case.own(Host(switch, number)) for number in (1, 2)]
    for number, (host, command) in enumerate(zip(hosts, (left, right)), 1):
        user = User(case, host)
        user.open(command)
        wait_for("the device", lambda: "vm0" in host.ip("link"))
        user.open(address.replace("10.9.0.1", f"10.9.0.{number}")).wait()
    wait_for("an answer from the other host", lambda: subprocess.run(
        hosts[0].enter("busybox", "ping", "-c", "1", "-W", "1", "10.9.0.2"),
        stdout=subprocess.DEVNULL).returncode == 0)
