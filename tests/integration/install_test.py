"""make install, install-strip and uninstall."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness import (ROOT, Case, Process, expect, expect_equal, needs,
                     wait_for)

PLACES = ("usr/bin/forwarder", "usr/share/man/man8/forwarder.8",
          "usr/share/man/man5/forwarder.ini.5", "etc/forwarder",
          "usr/share/doc/forwarder/forwarder.ini")


def make(*arguments) -> str:
    done = subprocess.run(["make", "-s", "-C", ROOT, *map(str, arguments)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    expect_equal(f"make {arguments[0]}: exit status, with {done.stdout}",
                 done.returncode, 0)
    return done.stdout


def install(case: Case, goal: str = "install", *settings: str) -> Path:
    # A blank in the name, because somebody's home has one.
    root = case.path("a root")
    make(goal, f"DESTDIR={root}", *(settings or ("PREFIX=/usr",)))
    return root


@needs()
def uninstall_removes_what_install_put_there_and_nothing_else(case: Case):
    root = install(case)
    for place in PLACES:
        expect((root / place).exists(), f"expected {place}")
    other = root / "usr/share/man/man8/other.8"
    config = root / "etc/forwarder/vm1.ini"
    for path in (other, config):
        path.touch()
    # Nothing needs to be built to remove it.
    make("uninstall", f"DESTDIR={root}", "PREFIX=/usr",
         "PROGRAM=/missing/forwarder")
    expect_equal("the remaining files",
                 {path for path in root.rglob("*") if not path.is_dir()},
                 {other, config})
    for path in (other, config):
        path.unlink()
    make("install", f"DESTDIR={root}", "PREFIX=/usr")
    make("uninstall", f"DESTDIR={root}", "PREFIX=/usr")
    expect_equal("the remaining folders", list(root.rglob("*")), [])


@needs()
def install_replaces_a_program_that_runs(case: Case):
    program = install(case) / "usr/bin/forwarder"
    running = case.own(Process(
        [program, "-g", f"unixgram:{case.path('g')}", "-n", "unix:/missing"],
        case.path("running.log")))
    wait_for("the guest's socket", case.path("g").is_socket)
    old = program.stat()
    install(case, "install-strip")
    new = program.stat()
    expect(new.st_ino != old.st_ino and new.st_size < old.st_size,
           f"expected a smaller new file: {old}, {new}")
    expect(running.alive(), "expected the old program to run on")


@needs()
def units_run_the_program_and_read_the_files_of_this_installation(case: Case):
    root = install(case, "install", "BINDIR=/opt/vm/bin", "SYSCONFDIR=/opt/etc")
    units = [path.read_text() for path in
             (root / "usr/local/lib/systemd/system").glob("forwarder*.service")]
    expect(any("ExecStart=/opt/vm/bin/forwarder -c /opt/etc/forwarder/%i.ini\n"
               in unit for unit in units),
           f"expected paths of this installation in: {units}")
    for unit in units:
        for usual in ("=forwarder ", "/bin/forwarder", "/etc/forwarder"):
            line = next((line for line in unit.splitlines()
                         if usual in line.replace("/opt/vm/bin/forwarder", "")
                         .replace("/opt/etc/forwarder", "")), None)
            expect(not line, f"expected no {usual} in {line}")
    script = root / "usr/local/lib/forwarder/forwarder-textfile"
    expect("\n/opt/vm/bin/forwarder status" in script.read_text(),
           "expected the path of the program in forwarder-textfile")
    expect(any(f"ExecStart=/{script.relative_to(root)} " in unit
               for unit in units), "expected a unit that runs it")


@needs()
def every_page_that_a_page_refers_to_is_installed(case: Case):
    man = install(case) / "usr/share/man"
    pages = [path for path in man.rglob("forwarder*") if path.is_file()]
    for page in pages:
        for line in page.read_text().splitlines():
            if line.startswith(".Xr forwarder"):
                name, section = line.split()[1:3]
                expect((man / f"man{section}" / f"{name}.{section}").exists(),
                       f"{page.name} refers to {name}({section})")
