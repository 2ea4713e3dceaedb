"""Studies on a Ray cluster: what is lost is made again, and who has no token is not let in."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The address of a cluster, the environment that its token is in, and what has it lose a node."""
    home = tmp_path_factory.mktemp("home")
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32, "HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))],
        env={**os.environ, **env},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=home,
    )
    address = process.stdout.readline().strip()
    assert ":" in address

    def lose(number):
        process.stdin.write(f"lose {number}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "lost\n"

    yield address, env, lose
    process.stdin.close()
    process.wait(timeout=60)


def test_who_has_no_token_or_a_wrong_one_is_not_let_in(cluster, tmp_path, disturb):
    address, env, _ = cluster
    Disturbed, *_ = disturb
    for token, says in (("cd" * 32, "does not let this study in"), (None, "RAY_AUTH_TOKEN")):
        study = Disturbed(tmp_path / "study", "--on", f"ray:{address}", env={**env, "HOME": str(tmp_path)})
        study.env.pop("RAY_AUTH_MODE")  # on without being asked for
        if token is None:
            study.env.pop("RAY_AUTH_TOKEN")
        else:
            study.env["RAY_AUTH_TOKEN"] = token
        study.start()
        assert says in " ".join(study.finish(code=2).split())


def test_lost_workers_a_lost_node_and_a_killed_study_change_no_bit(cluster, tmp_path, disturb, undisturbed):
    address, env, lose = cluster
    Disturbed, workers, table, chance = disturb
    study = Disturbed(tmp_path / "study", "--on", f"ray:{address}", env=env)
    study.start()
    study.wait_for(chance.randrange(1, study.all_steps // 6))
    victims = workers("ray::whatwhere")
    chance.choice(victims).kill()
    study.wait_for(study.steps() + chance.randrange(1, study.all_steps // 6))
    lose(chance.randrange(2))
    study.wait_for(study.steps() + chance.randrange(1, study.all_steps // 6))
    study.kill()
    assert study.steps() < study.all_steps
    study.start()
    study.finish()
    assert table(study.results()) == table(undisturbed)
    assert "RayExecutor" in study.results()["machine"]["training"]
    assert json.loads((study.out / "study.json").read_text())["threads"] == 1
