"""What the tests of several packages share."""

import os
import shutil
import subprocess

# Tests run side by side: one thread each, also in the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

hypothesis.settings.register_profile("whatwhere", deadline=None)
hypothesis.settings.load_profile("whatwhere")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the tests' images out of the user's cache, and share them between test processes of one run."""
    os.environ.setdefault("WHATWHERE_CACHE", str(tmp_path_factory.getbasetemp().parent / "whatwhere-cache"))


@pytest.fixture
def browser(tmp_path):
    """Return a function that loads a page in a real headless Chromium and returns its DOM, or writes a screenshot."""
    program = next((p for p in ("chromium", "chromium-browser", "google-chrome") if shutil.which(p)), None)
    if program is None:
        assert "CI" not in os.environ, "CI installs Chromium"
        pytest.skip("no Chromium on this machine")
    quiet = [
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
    ]
    base = [program, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={tmp_path / 'profile'}"]

    def load(page, screenshot=None, width=1200, height=1600, flags=()):
        what = (
            ["--dump-dom"] if screenshot is None else [f"--screenshot={screenshot}", f"--window-size={width},{height}"]
        )
        done = subprocess.run(
            [*base, *flags, *what, page.resolve().as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        return done.stdout

    return load
