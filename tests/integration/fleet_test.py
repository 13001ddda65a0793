"""Many forwarders on one host, as Prometheus sees them: their metrics, the
alerts, the dashboard."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
from typing import Callable

try:
    import yaml
except ImportError:  # reported by the test that needs it
    yaml = None

from forwarder import run_forwarder
from harness import (NEEDS, ROOT, Case, Namespace, expect, expect_equal,
                     needs, wait_until)
from peers import NOBODY
from prometheus import (ALERTS, HOST, MONITORING, TEXTFILE, Instance,
                        Prometheus, collect, dashboard, expressions)
from systemd import Machine

NEEDS["yaml"] = lambda: None if yaml else "python3's yaml (python3-yaml)"


class Fleet:
    """Ten forwarders, vm1 to vm10, each joined to another one, peer1 to
    peer10, and Prometheus, which sees what is collected."""

    PAIRS = range(1, 11)

    def __init__(self, case: Case) -> None:
        run = case.corner("run")
        textfiles = case.corner("textfiles")
        self.run, self.file = run.folder, textfiles.path("forwarder.prom")
        self.peers = {number: Instance(
            run, f"peer{number}", f"listen-unix:{case.path(str(number))}")
            for number in self.PAIRS}
        self.vms = {number: Instance(
            run, f"vm{number}", f"unix:{case.path(str(number))}")
            for number in self.PAIRS}
        self.names = {f"{kind}{number}" for kind in ("vm", "peer")
                      for number in self.PAIRS}
        namespace = case.own(Namespace())
        namespace.ip("link set lo up")
        self.prometheus = Prometheus(case, namespace.enter, textfiles.folder)

    def until(self, what: str, probe: Callable, wanted: object):
        """Collects metrics before each look."""
        def look():
            collect(self.file, self.run)
            return probe()
        return wait_until(what, look, wanted, 20)

    def until_values(self, expression: str, wanted: object) -> dict:
        return self.until(expression,
                          lambda: self.prometheus.values(expression), wanted)


@needs("prometheus")
def alert_rules_fire_when_they_should(case: Case):
    for arguments in (["check", "rules", ALERTS],
                      ["test", "rules", MONITORING / "alerts_test.yml"]):
        done = subprocess.run(["promtool", *arguments], capture_output=True,
                              stdin=subprocess.DEVNULL, text=True)
        expect_equal(f"exit status, with {done.stdout}{done.stderr}",
                     done.returncode, 0)


@needs()
def panels_of_the_dashboard_do_not_overlap_and_use_the_chosen_source(
        case: Case):
    taken, source = set(), {"type": "prometheus", "uid": "${datasource}"}
    panels = dashboard()["panels"]
    expect_equal("numbers of the panels", [panel["id"] for panel in panels],
                 list(range(1, len(panels) + 1)))
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y)
                 for x in range(place["w"]) for y in range(place["h"])}
        expect(all(x < 24 for x, _ in cells) and not cells & taken,
               f"expected room for {panel['title']}")
        taken |= cells
        for thing in (panel, *panel["targets"]):
            expect_equal(f"source in {panel['title']}", thing["datasource"],
                         source)


@needs("namespaces", "prometheus", limit=90)
def twenty_instances_an_outage_and_alerts_are_seen_by_prometheus(case: Case):
    """And every expression of the dashboard has data."""
    fleet = Fleet(case)
    up = fleet.until_values("forwarder_up == 1",
                            lambda found: len(found) >= len(fleet.names))
    expect_equal("names", set(up), fleet.names)
    fleet.peers[3].process.kill()
    fleet.peers[4].signal(signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as guest:
        guest.connect(str(fleet.vms[5].guest_path))
        guest.send(b"runt")
    fleet.until("alerts", fleet.prometheus.firing, {
        ("ForwarderNotAnswering", "peer3"), ("ForwarderDown", "vm3"),
        ("ForwarderNotAnswering", "peer4"), ("ForwarderKeepaliveDeaths", "vm4")})
    fleet.peers[4].signal(signal.SIGCONT)
    fleet.peers[3].again()
    fleet.until_values("forwarder_outages_total == 1",
                       lambda found: {"vm3", "vm4"} <= set(found))
    fleet.until("alerts", fleet.prometheus.firing,
                {("ForwarderKeepaliveDeaths", "vm4")})
    for title, expression in expressions("1m"):
        found = fleet.until(f"{title}: {expression}",
                            lambda: fleet.prometheus.query(expression), bool)
        if "name" in found[0]:
            expect_equal(f"host in {title}", found[0]["instance"], HOST)


# --- docs/fleet.md ------------------------------------------------------------

def examples() -> list:
    """The documents in its blocks of YAML."""
    blocks = re.findall(r"```yaml\n(.*?)```",
                        (ROOT / "docs" / "fleet.md").read_text(), re.S)
    return [document for block in blocks
            for document in yaml.safe_load_all(block)]


@needs("yaml")
def examples_for_ansible_and_kubernetes_can_be_read(case: Case):
    (play,), config, daemons = examples()
    copy = play["tasks"][0]["ansible.builtin.copy"]["content"]
    for text in (copy.replace("{{ item }}", "vm1"), config["data"]["node.ini"]):
        file = case.path("example.ini")
        file.write_text(text)
        checked = run_forwarder("--check", "-c", file)
        expect_equal(f"status with {checked.stderr}", checked.returncode, 0)
    pod = daemons["spec"]["template"]
    expect_equal("labels", pod["metadata"]["labels"],
                 daemons["spec"]["selector"]["matchLabels"])
    container, = pod["spec"]["containers"]
    expect_equal("volumes", [mount["name"] for mount
                             in container["volumeMounts"]],
                 [volume["name"] for volume in pod["spec"]["volumes"]])


# --- forwarder-textfile -------------------------------------------------------

def limit_files() -> None:
    """As a full disk: what a program writes to a file ends after 100 bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


@needs()
def metrics_are_replaced_whole_or_not_at_all(case: Case):
    run, out = case.corner("run"), case.corner("out")
    file = out.path("forwarder.prom")
    vm = Instance(run, "vm1", f"unix:{case.path('net.sock')}")

    def expect_refused(**options) -> None:
        done = collect(file, run.folder, **options)
        expect(done.returncode == 1 and done.stderr,
               f"expected it to fail and to say why: {done}")
        expect_equal("metrics", file.read_text(), before)
        expect_equal("files", list(out.folder.iterdir()), [file])

    expect_equal("status", collect(file, run.folder, umask=0o077).returncode, 0)
    expect_equal("mode", stat.S_IMODE(file.stat().st_mode), 0o644)
    before, inode = file.read_text(), file.stat().st_ino
    expect('forwarder_up{name="vm1"} 0' in before, f"expected vm1: {before}")
    broken = case.corner("bin").path("forwarder")
    broken.write_text("#!/bin/sh\necho half\necho broken >&2\nexit 71\n")
    broken.chmod(0o755)
    expect_refused(env={"PATH": f"{broken.parent}:{os.defpath}"})
    expect_refused(preexec_fn=limit_files, restore_signals=False)
    vm.signal(signal.SIGSTOP)
    expect_equal("status with a stuck forwarder",
                 collect(file, run.folder).returncode, 0)
    vm.signal(signal.SIGCONT)
    stuck = file.read_text()
    expect('forwarder_up{name="vm1"} 0' in stuck
           and "forwarder_info{" not in stuck, f"expected no answer: {stuck}")
    expect(file.stat().st_ino != inode, "expected another file")
    shutil.rmtree(run.path("vm1"))
    expect_equal("status without a forwarder",
                 collect(file, run.folder).returncode, 0)
    expect_equal("metrics without a forwarder", file.read_text(), "")


@needs("root", "systemd", "plain-build")
def timer_writes_the_metrics_of_services_where_others_can_read_them(
        case: Case):
    machine = Machine(case)
    script = "/usr/lib/forwarder/forwarder-textfile"
    machine.write(script, TEXTFILE.read_text())
    machine.run("chmod", "755", script)
    machine.write("/etc/forwarder/vm1.ini", """
[guest]
endpoint = unixgram:/run/forwarder/vm1/guest.sock
[network]
endpoint = unix:/run/vm1-daemon.sock
[control]
socket = /run/forwarder/vm1/control.sock
""")
    machine.systemctl("start", "forwarder@vm1.service",
                      "forwarder-textfile.timer")
    wait_until("metrics that others may read", lambda: machine.ask(
        "setpriv", f"--reuid={NOBODY}", "--clear-groups", "cat",
        "/run/forwarder-textfile/forwarder.prom").stdout,
        lambda text: 'forwarder_up{name="vm1"} 0' in text, 20)
    expect_equal("journal", machine.journal("forwarder-textfile.service"), [])
    # A forwarder that nobody can ask is told.
    machine.systemctl("stop", "forwarder@vm1.service")
    machine.systemctl("start", "forwarder-textfile.service")
    machine.until_journal("forwarder-textfile.service", "no control socket")
    security = machine.run("systemd-analyze", "security", "--no-pager",
                           "forwarder-textfile.service").splitlines()[-1]
    score = float(re.search(r"\d+\.\d+", security).group())
    print(f"        {score}")
    expect(score <= 1.0, f"expected 1.0 at most: {security}")
