"""The real Prometheus and node_exporter on the loopback of a test, and the
files of service/monitoring/ as they see them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence

from forwarder import Forwarder
from harness import (FORWARDER, NEEDS, ROOT, Case, Corner, Process, expect,
                     expect_equal, wait_for)

MONITORING = ROOT / "service" / "monitoring"
DASHBOARD = MONITORING / "grafana-dashboard.json"
ALERTS = MONITORING / "alerts.yml"
TEXTFILE = MONITORING / "forwarder-textfile"
HOST = "host1"  # the label `instance`
INTERVAL = "500ms"

PROGRAMS = ("prometheus", "prometheus-node-exporter", "promtool")
os.environ["PATH"] += f":{ROOT / 'build/prometheus/usr/bin'}"


def lacks_prometheus() -> Optional[str]:
    """Unpacked for the tests if the system has not all of it."""
    if not all(map(shutil.which, PROGRAMS)):
        subprocess.run([ROOT / "tests" / "unpack", "prometheus", *PROGRAMS[:2]])
    return " ".join(program for program in PROGRAMS
                    if not shutil.which(program)) or None


NEEDS["prometheus"] = lacks_prometheus

# Fetches each URL that it reads, and prints the answer on one line.
CLIENT = """
import sys, urllib.error, urllib.request
for url in sys.stdin:
    try:
        answer = urllib.request.urlopen(url.strip(), timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    except OSError as error:
        print(error, flush=True)
        continue
    print(answer.read().decode().strip() or answer.reason, flush=True)
"""


class Prometheus:
    """Scrapes node_exporter, which reads *.prom in `textfiles`. `enter` makes
    the command line that runs another one where they are to run. Alerts do not
    wait for their minutes."""

    def __init__(self, case: Case, enter: Callable[..., list[str]],
                 textfiles: Path) -> None:
        rules, config = case.path("rules.yml"), case.path("prometheus.yml")
        rules.write_text(re.sub(r"for: \w+", "for: 1s", ALERTS.read_text()))
        config.write_text(json.dumps({
            "global": {"scrape_interval": INTERVAL,
                       "evaluation_interval": INTERVAL},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "node", "static_configs": [
                {"targets": ["127.0.0.1:9100"],
                 "labels": {"instance": HOST}}]}]}))
        case.own(Process(enter(
            "prometheus-node-exporter", "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={textfiles}",
            "--web.listen-address=127.0.0.1:9100"),
            case.path("node_exporter.log")))
        case.own(Process(enter(
            "prometheus", f"--config.file={config}",
            f"--storage.tsdb.path={case.path('tsdb')}",
            "--web.listen-address=127.0.0.1:9090"),
            case.path("prometheus.log")))
        self._client = subprocess.Popen(
            enter(sys.executable, "-c", CLIENT), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        case.own(self)
        wait_for("prometheus to scrape", lambda: self._fetch(
            "query", query="up == 1").get("data", {}).get("result"), 30)

    def _fetch(self, what: str, **parameters) -> dict:
        """An empty answer until it is ready."""
        self._client.stdin.write(f"http://127.0.0.1:9090/api/v1/{what}?"
                                 f"{urllib.parse.urlencode(parameters)}\n")
        self._client.stdin.flush()
        answer = self._client.stdout.readline()
        return json.loads(answer) if answer.startswith("{") else {}

    def ask(self, what: str, **parameters) -> dict:
        answer = self._fetch(what, **parameters)
        expect_equal(f"status of {parameters}: {answer.get('error')}",
                     answer.get("status"), "success")
        return answer["data"]

    def query(self, expression: str) -> list[dict]:
        """Each series as its labels and, under "value", its value now."""
        return [{**series["metric"], "value": float(series["value"][1])}
                for series in self.ask("query", query=expression)["result"]]

    def values(self, expression: str) -> dict[str, float]:
        """By name of the forwarder."""
        return {one["name"]: one["value"] for one in self.query(expression)}

    def firing(self) -> set[tuple[str, str]]:
        """Each alert and the name of its forwarder."""
        return {(one["labels"]["alertname"], one["labels"].get("name", ""))
                for one in self.ask("alerts")["alerts"]
                if one["state"] == "firing"}

    def close(self) -> None:
        self._client.stdin.close()
        self._client.wait(10)
        self._client.stdout.close()


def dashboard() -> dict:
    return json.loads(DASHBOARD.read_text())


def expressions(window: str) -> Iterator[tuple[str, str]]:
    """Each panel's title and an expression of it, for the time `window`, with
    every instance selected."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], fill_in(target["expr"], window)


def fill_in(expression: str, window: str) -> str:
    for variable, value in (("$__rate_interval", window), ("$__range", window),
                            ("$instance", ".*"), ("$name", ".*")):
        expression = expression.replace(variable, value)
    expect("$" not in expression, f"expected no other variable: {expression}")
    return expression


# --- what it sees -------------------------------------------------------------

def collect(file: Path, folder: Path, **options
            ) -> subprocess.CompletedProcess:
    """Runs forwarder-textfile, as its timer does."""
    path = f"{FORWARDER.parent}:{os.environ['PATH']}"
    return subprocess.run([TEXTFILE, file, folder],
                          **{"env": {"PATH": path}, **options},
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=20)


class Instance(Forwarder):
    """With its sockets in a folder of its own, as below /run/forwarder."""

    def __init__(self, run: Corner, name: str, network: str,
                 options: Sequence[str] = ()) -> None:
        corner = run.corner(name)
        self.guest_path = corner.path("guest.sock")
        super().__init__(corner, network, f"unixgram:{self.guest_path}", [
            f"service.name={name}", "keepalive.mode=peer",
            "keepalive.interval=100ms",
            f"control.socket={corner.path('control.sock')}", *options])

    def again(self) -> None:
        """The killed forwarder is started again."""
        super().__init__(self.case, self.settings["network.endpoint"],
                         self.settings["guest.endpoint"],
                         [f"{key}={value}" for key, value
                          in self.settings.items()])
