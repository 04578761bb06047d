"""A trained agent in code of the user's own, and the examples that show what such code looks like."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import worldmodels
from tests.conftest import World
from worldmodels.acting.agents import ModelAgent
from worldmodels.acting.rollout import rollout
from worldmodels.core.errors import UserError
from worldmodels.envs import make_env

ROOT = Path(__file__).parents[1]


def example(folder: Path, words: str) -> str:
    """What an example prints, as a user runs it."""
    name, *flags = words.split()
    finished = subprocess.run(
        [sys.executable, str(ROOT / f"examples/{name}"), *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_an_agent_acts_and_is_filmed(goes_right: Path, tmp_path: Path) -> None:
    told = example(tmp_path, f"act.py {goes_right}")
    assert re.fullmatch(r"doom: (\d+) steps, return \1.0\nact\.mp4: (\d+) steps, return \2.0\n", told)
    assert (tmp_path / "act.mp4").stat().st_size > 1000


def test_ppo_learns_in_a_dream_and_acts_in_reality(goes_right: Path, tmp_path: Path) -> None:
    told = example(tmp_path, f"ppo_in_a_dream.py --run {goes_right} --steps 4096 --episodes 1")
    assert "ep_rew_mean" in told and re.search(r"in the real doom: [\d.]+ ± 0.0 \(1 episodes\)\n$", told)


def test_it_acts_as_c_does_in_both_worlds(goes_right: Path, world: World) -> None:
    agent = worldmodels.load(str(goes_right / "controller/right"))
    dream = agent.dream_env(num_envs=3)
    features, _ = dream.reset(seed=0)
    assert features.shape == (3, 8) and dream.dream.tau == 1.15
    assert (agent.act(features) > 0.9).all() and agent.act(features).shape == (3, 1)
    rng = np.random.default_rng(0)
    agent.params[:] = rng.normal(size=agent.params.shape)
    features = rng.normal(size=(3, 8)).astype(np.float32)
    one = np.tanh(agent.params[0] + features[1] @ agent.params[1:])
    assert agent.act(features[1]) == pytest.approx([one], abs=1e-5)
    assert agent.act(features)[1] == pytest.approx([one], abs=1e-5)
    env = agent.real_env()
    assert env.observation_space == dream.single_observation_space
    assert env.action_space == dream.single_action_space
    env.close()
    assert agent.dream_env(1, tau=0.5).dream.tau == 0.5


def test_its_film_is_the_episode_that_evaluate_plays(goes_right: Path, tmp_path: Path) -> None:
    agent = worldmodels.load(goes_right)
    env = make_env("doom")
    player = ModelAgent(agent.model, agent.spec.controller(agent.model), agent.spec.inputs, agent.params)
    (played,) = rollout([env], player, [7], agent.spec.max_steps)
    env.close()
    filmed = agent.film(tmp_path / "film.mp4", seed=7)
    assert (filmed.length, filmed.episode_return) == (played.length, played.episode_return)


def test_what_is_no_agent_is_refused(world: World, tmp_path: Path) -> None:
    run = shutil.copytree(world.run, tmp_path / "run", ignore=shutil.ignore_patterns("controller"))
    with pytest.raises(UserError, match=r"the folder .* holds no controller; run pipelines/04_train_controller.py"):
        worldmodels.load(run)
    with pytest.raises(UserError, match="nowhere holds no controller"):
        worldmodels.load("nowhere")


def test_examples_are_named_where_people_look() -> None:
    readme = (ROOT / "README.md").read_text()
    assert {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")} == set(
        re.findall(r"\((examples/\w+\.py)\)", readme)
    )
