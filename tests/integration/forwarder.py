"""The program under test: started, asked for its status, stopped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Optional, Sequence

from harness import FORWARDER, Failure, Process, expect, wait_for


def command_line(control: Path, network: str, guest: str = "",
                 options: Sequence[str] = ()) -> list[str]:
    """Options are SECTION.KEY=VALUE. What nobody names has its default."""
    line = [str(FORWARDER), "-n", network]
    if guest:
        line += ["-g", guest]
    for option in (f"control.socket={control}", "log.level=debug", *options):
        line += ["-o", option]
    return line


def ask_status(control: Path) -> Optional[dict]:
    """None while nobody answers."""
    done = subprocess.run([FORWARDER, "status", control, "--json"],
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=10)
    if done.returncode != 0:
        return None
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise Failure(f"expected JSON from status, found: {done.stdout!r}")


class Forwarder:
    """A forwarder with a control socket. Started when this returns."""

    def __init__(self, folder: Path, network: str, guest: str,
                 options: Sequence[str] = (), name: str = "forwarder",
                 identity: Optional[dict] = None) -> None:
        self.control = folder / f"{name}-control.sock"
        self.log = folder / f"{name}.log"
        line = command_line(self.control, network, guest, options)
        if identity:  # another user, who may not look where it was built
            line[0] = shutil.copy(FORWARDER, folder / f"{name}-program")
            os.chmod(line[0], 0o755)
        self.process = Process(line, self.log, **(identity or {}))
        try:
            wait_for("the forwarder to answer on its control socket",
                     lambda: not self.process.alive()
                     or ask_status(self.control))
            expect(self.process.alive(), "expected the forwarder to start")
        except BaseException:
            self.close()
            raise

    def status(self) -> dict:
        answer = ask_status(self.control)
        expect(answer, "expected the forwarder to tell its status")
        return answer

    def wait_until_up(self, seconds: float = 10) -> None:
        wait_for("the forwarder's network to be up",
                 lambda: self.status()["network"]["state"] == "up", seconds)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, seconds: float = 1) -> int:
        """SIGTERM, and the exit status. A second is what it is given."""
        return self.process.terminate(seconds)

    def close(self) -> None:
        self.process.close()


def wait_for_frames_after(forwarder: Forwarder, generation: int,
                          meanwhile: Callable = lambda: None) -> None:
    """Until a newer generation has proven to live: it is up, and the count of
    frames from the network moves while it stays the same one."""
    seen: dict = {}

    def frames_move() -> bool:
        meanwhile()
        status = forwarder.status()
        network = status["network"]
        if network["state"] != "up" or network["generation"] <= generation:
            return False
        frames = status["network_to_guest"]["frames"]
        return frames > seen.setdefault(network["generation"], frames)

    wait_for(f"frames from the network in a generation after {generation}",
             frames_move)
