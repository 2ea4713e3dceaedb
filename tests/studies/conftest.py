"""A study that is disturbed in several ways, and what it comes to undisturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that tests can import simulation.py

WORDS = ["study", "--data", "scenes:size=20:train=300:test=60", "--attention", "cbam", "--no-control", "--seeds", "2"]
WORDS += ["--epochs", "4", "--batch-size", "20", "--save-every", "4", "--log-every", "1", "--threads", "1"]
WORDS += ["--images", "0"]


class Disturbed:
    """A study as a process of its own, whose workers and which itself can be killed."""

    all_steps = 2 * 2 * 4 * 15

    def __init__(self, out, *more, env=None):
        self.out = out
        self.command = [sys.executable, "-m", "whatwhere", *WORDS, "--out", str(out), *more]
        self.env = {**os.environ, **(env or {})}
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            self.command, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def steps(self):
        """How many steps are done, all runs together."""
        files = list(self.out.glob("*/*/metrics.jsonl"))
        return sum(file.read_text().count('"kind": "step"') for file in files)

    def wait_for(self, steps):
        until = time.monotonic() + 900
        while self.steps() < steps:
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until, f"only {self.steps()} steps"
            time.sleep(0.02)

    def kill(self):
        """Kill the study itself, with nothing of a chance to clean up."""
        self.process.kill()
        said, _ = self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL, said

    def finish(self, code=0):
        said, _ = self.process.communicate(timeout=1500)
        assert self.process.returncode == code, said
        return said

    def results(self):
        return json.loads((self.out / "results.json").read_text())


def table(results):
    """What must be the same, bit for bit, whatever happened: all that does not depend on time."""
    keys = ("arm", "values", "seeds", "difference", "verdict", "failed", "evidence", "curves", "losses")
    return [{key: row[key] for key in keys} for row in results["rows"]]


def workers(mark):
    """Processes on whose command line there is ``mark``."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if mark in " ".join(process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    study = Disturbed(tmp_path_factory.mktemp("undisturbed") / "study", "--jobs", "2")
    study.start()
    study.finish()
    return study.results()


@pytest.fixture
def disturb():
    """The class of disturbed studies, what finds workers, what is compared, and random numbers whose seed is told."""
    seed = int(os.environ.get("DISTURB", random.randrange(1000)))
    print(f"DISTURB={seed}")
    return Disturbed, workers, table, random.Random(seed)
