import numpy as np
import pytest

from worldmodels.core.errors import UserError
from worldmodels.envs import dmc, make_env
from worldmodels.envs.distract import background
from worldmodels.envs.dmc import ControlSuite, choose_renderer, mujoco, suite
from worldmodels.settings.envspec import EnvSpec

TASKS = ["cartpole-swingup", "walker-walk", "cheetah-run", "reacher-easy", "finger-spin", "ball_in_cup-catch"]


@pytest.mark.parametrize("task", TASKS)
def test_rewards_are_the_suites_summed_over_repeats(task: str) -> None:
    env = make_env(EnvSpec(f"dmc:{task}", 2), truth=True)
    _, info = env.reset(seed=3)
    domain, name = task.split("-")
    plain = suite.load(domain, name, task_kwargs={"random": 0})
    generator = np.random.default_rng(3)  # Gymnasium's own way from a seed to np_random
    plain.task.random.seed(int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(3))).integers(2**31)))
    time_step = plain.reset()
    spec = plain.action_spec()
    for _ in range(20):
        for key, value in time_step.observation.items():
            assert np.allclose(info["truth"][key], np.ravel(value), atol=1e-5), key
        action = generator.uniform(-1, 1, spec.shape)
        native = spec.minimum + (action + 1) / 2 * (spec.maximum - spec.minimum)
        expected = sum((time_step := plain.step(native)).reward for _ in range(2))
        obs, reward, terminated, truncated, info = env.step(action)
        assert reward == pytest.approx(expected, abs=1e-6) and not terminated and not truncated
        assert obs.shape == (64, 64, 3) and obs.dtype == np.uint8
    env.close()


@pytest.mark.parametrize(
    ("task", "size", "actions"),
    [("cartpole-balance", 1, 20), ("manipulation-reach_site", 9, 5)],  # 1,000 and 250 steps of control
)
def test_the_time_limit_truncates(task: str, size: int, actions: int) -> None:
    env = make_env(EnvSpec(f"dmc:{task}", 50))
    env.reset(seed=0)
    ends = [env.step(np.zeros(size, np.float32))[2:4] for _ in range(actions)]
    assert ends[:-1] == [(False, False)] * (actions - 1) and ends[-1] == (False, True)
    env.close()


@pytest.mark.parametrize("task", TASKS)
def test_the_background_is_replaced_exactly_where_nothing_stands(task: str) -> None:
    """Against MuJoCo's own segmentation: a geom is drawn, or the background is."""
    env = ControlSuite(task, 2, background(EnvSpec("dmc:" + task, 2, "noise")))
    env.reset(seed=1)
    env.step(np.zeros(env.action_space.shape, np.float32))
    view = env._view
    _, empty = view.draw(env._data)
    view._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = 1
    view._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
    coloured, _ = view.draw(env._data)
    drawn = coloured.any(-1)
    assert np.array_equal(empty, ~drawn) and 0.005 < drawn.mean() < 0.6
    env.close()


def test_a_clean_picture_looks_like_the_suites_own() -> None:
    """At 64x64, without multisampling and with coarser shadows."""
    env = ControlSuite("walker-walk", 2)
    obs, _ = env.reset(seed=1)
    plain = suite.load("walker", "walk", task_kwargs={"random": 0})
    with plain.physics.reset_context():
        plain.physics.data.qpos[:] = env._env.physics.data.qpos
    own = plain.physics.render(64, 64, camera_id=0)
    assert np.abs(own.astype(int) - obs).mean() < 6
    env.close()


@pytest.mark.parametrize("task", ["walker-walk", "ball_in_cup-catch"])
def test_rounder_bodies_would_look_alike(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> np.ndarray:
        env = ControlSuite(task, 2)
        obs, _ = env.reset(seed=3)
        env.close()
        return obs.astype(int)

    ours = seen()
    monkeypatch.setattr(dmc, "SLICES", 28)
    monkeypatch.setattr(dmc, "STACKS", 16)
    difference = np.abs(ours - seen())
    assert difference.any()  # it was drawn otherwise
    assert difference.mean() < 0.25 and (difference.max(-1) > 8).mean() < 0.005  # of 255, and of all pixels


def test_the_same_seed_repeats_an_episode_and_others_differ() -> None:
    env = make_env("dmc:reacher-easy")
    first, again, other = (env.reset(seed=s)[0] for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    env.close()


def test_two_environments_of_different_tasks_share_a_process() -> None:
    a, b = make_env("dmc:reacher-easy"), make_env("dmc:walker-walk")
    alone = a.reset(seed=1)[0]
    b.reset(seed=1)
    assert np.array_equal(a.reset(seed=1)[0], alone)
    b.close()
    assert np.array_equal(a.reset(seed=1)[0], alone)
    a.close()


def test_terrain_is_that_of_the_episode_whatever_was_played_before() -> None:
    env = make_env("dmc:quadruped-escape")
    first = env.reset(seed=5)[0]
    for seed in (6, 7):
        env.reset(seed=seed)
    assert np.array_equal(env.reset(seed=5)[0], first) and not np.array_equal(env.reset(seed=6)[0], first)
    env.close()


def test_actuators_without_a_range_get_one() -> None:
    env = make_env("dmc:lqr-lqr_2_1")
    env.reset(seed=0)
    assert abs(env.step(np.full(1, 0.1, np.float32))[1]) < 10
    env.close()


def test_unknown_tasks_and_repeats_elsewhere_are_told() -> None:
    with pytest.raises(UserError, match=r"--env dmc:walker-wolk is unknown; did you mean walker-walk\?"):
        make_env("dmc:walker-wolk")
    with pytest.raises(UserError, match="--action-repeat 2 is for carracing, dmc environments; --env doom takes 1"):
        make_env(EnvSpec("doom", 2))


def test_without_a_renderer_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    with pytest.raises(UserError, match="apt-get install libegl1"):
        choose_renderer()
    monkeypatch.setattr("ctypes.util.find_library", lambda name: "x" if name == "OSMesa" else None)
    choose_renderer()
    import os

    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "egl")
