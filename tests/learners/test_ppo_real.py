"""PPO in real episodes: what it makes of them, in closed form, and that it learns."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.learners.worlds import SIZE, TINY_PPO, pond
from worldmodels.acting.actions import bounded
from worldmodels.acting.actor import Actor
from worldmodels.core import checkpoint, seeding
from worldmodels.core.errors import UserError
from worldmodels.learners.lived import Lived, LivedTask, paid
from worldmodels.learners.ppo_real import RealPPO
from worldmodels.learners.returns import advantages
from worldmodels.settings.learners.ppo import PPOSettings
from worldmodels.workers.local import Workers

STEPS = 20


def played(task: LivedTask) -> list[Lived]:
    """Episodes in the pond, of STEPS steps, instead of those that a worker would play."""
    torch.manual_seed(0)
    actor = Actor(SIZE, 2, 8, 1, scaled=True)
    actor.given(torch.from_numpy(task.params)[None])
    return [episode(actor, task, seed) for seed in task.seeds]


def episode(actor: Actor, task: LivedTask, seed: int) -> Lived:
    luck = torch.Generator().manual_seed(seed)
    x = torch.randn(1, SIZE, generator=luck)
    feats, actions, rewards = [], [], []
    for step in range(STEPS):
        if step % task.hold == 0:
            stats = torch.zeros(1, 4) if task.by_chance else actor(x).detach()
            actions.append(actor.actions.sample(stats, seeding.uniform(luck, 1, 2)))
            feats.append(x)
        x = pond(x, bounded(actions[-1]), seeding.uniform(luck, 1, 1))
        rewards.append(1 - float((x**2).sum()))
    as_array = (torch.cat(part).numpy() for part in (feats, actions))
    return Lived(*as_array, np.array(rewards, np.float32), seed % 2 == 0, ("it stumbled",) if seed % 3 == 0 else ())


class Spec:
    """Of a run that nobody looks at."""

    run = Path("nowhere")

    def for_worker(self, run: Path) -> "Spec":
        return self


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> RealPPO:
    return made(monkeypatch)


def made(monkeypatch: pytest.MonkeyPatch, settings: PPOSettings = TINY_PPO, episodes: int = 6) -> RealPPO:
    monkeypatch.setattr("worldmodels.learners.ppo_real.play", played)
    monkeypatch.setattr("worldmodels.models.fingerprint", lambda run: "none")
    torch.manual_seed(3)
    actor = Actor(SIZE, 2, settings.units, settings.layers, scaled=True)
    there = (Spec(), Workers(0), episodes, 4, 0, [])
    return RealPPO(actor, settings, 3, torch.device("cpu"), *there)  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "hold"), [(6, 3), (7, 3), (1, 4), (5, 1)])
def test_what_a_decision_is_paid_until_the_next(length: int, hold: int) -> None:
    rewards = np.random.default_rng(0).normal(size=length).astype(np.float32)
    reward, discount = paid(rewards, hold, 0.9)
    starts = range(0, length, hold)
    for k, start in enumerate(starts):
        own = rewards[start : start + hold].astype(float)
        assert reward[k] == pytest.approx(sum(0.9**i * one for i, one in enumerate(own)), rel=1e-12)
        assert discount[k] == pytest.approx(0.9 ** len(own), rel=1e-12)
    assert len(reward) == len(discount) == len(starts)


def test_what_is_learnt_from_is_what_was_lived(learner: RealPPO) -> None:
    """Episodes one after the other; the last decision of one that was cut short only says what was to follow."""
    torch.nn.init.normal_(learner.critic.net[-1].weight, std=0.5)
    decided = learner.decide(seeding.generator(0))
    lived = learner._play(seeding.generator(0), by_chance=False)
    at = 0
    for one in lived:
        value = learner.value(torch.from_numpy(one.feat)).detach()
        reward, discount = paid(one.rewards, TINY_PPO.hold, TINY_PPO.discount)
        count = len(one.feat) - (not one.over)
        for k in range(count):
            last = k == len(one.feat) - 1
            assert decided.feat[at, 0].tolist() == one.feat[k].tolist()
            assert float(decided.reward[at, 0]) == pytest.approx(reward[k], rel=1e-5, abs=1e-6)
            assert float(decided.discount[at, 0]) == pytest.approx(discount[k], rel=1e-5)
            following = 0.0 if last else float(value[k + 1])
            assert float(decided.following[at, 0]) == pytest.approx(following, rel=1e-4, abs=1e-5)
            assert float(decided.value[at, 0]) == pytest.approx(float(value[k]), rel=1e-4, abs=1e-5)
            assert float(decided.cut[at, 0]) == (k == count - 1)
            at += 1
    assert at == len(decided.feat) and {one.over for one in lived} == {True, False}
    gain = advantages(decided.reward, decided.discount, decided.value, decided.following, decided.cut, TINY_PPO.lambda_)
    first = lived[0]
    alone = advantages(*(part[: len(first.feat) - (not first.over)] for part in decided[4:5]), *(
        part[: len(first.feat) - (not first.over)]
        for part in (decided.discount, decided.value, decided.following, decided.cut)
    ), TINY_PPO.lambda_)  # fmt: skip
    assert torch.equal(gain[: len(alone)], alone)  # no episode knows of the next


def test_features_are_scaled_by_play_of_chance(learner: RealPPO) -> None:
    learner.decide(seeding.generator(0))
    by_chance = np.concatenate(
        [one.feat for one in learner._play(seeding.generator(3, "ppo", "begin"), by_chance=True)]
    )
    scaled = learner.actor.scaled
    assert np.allclose(scaled.mean, by_chance.mean(0), atol=1e-5)  # type: ignore[arg-type]
    assert np.allclose(scaled.std, by_chance.std(0, ddof=1), rtol=1e-4)  # type: ignore[arg-type]


def test_it_learns_to_keep_the_pond_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(TINY_PPO, hold=1, batch_size=128, epochs=4, entropy=1e-3)
    learner = made(monkeypatch, settings, episodes=24)
    returns = [float(learner.update()["episode_return"]) for _ in range(20)]
    assert np.mean(returns[-5:]) > np.mean(returns[:5]) + 0.2 * STEPS
    assert learner.steps == 24 * STEPS


def test_a_new_critic_learns_what_an_actor_is_paid_before_that_goes_on(learner: RealPPO, tmp_path: Path) -> None:
    params = learner.params + 0.1
    learner.start_from(params, tmp_path / "no-checkpoint")
    learner._fit()
    assert np.allclose(learner.params, params)
    lived = learner._play(seeding.generator(9), by_chance=False)
    feat = torch.from_numpy(np.stack([one.feat[0] for one in lived]))
    came = [sum(paid(one.rewards, 1, TINY_PPO.discount)[0] * TINY_PPO.discount ** np.arange(STEPS)) for one in lived]
    expected = learner.value(feat).detach().numpy()
    assert np.abs(expected - came).mean() < 0.7 * np.abs(came).mean()  # a new one expects nothing


def test_only_a_critic_without_a_past_learns_first(learner: RealPPO, tmp_path: Path) -> None:
    learner.update()
    checkpoint.save(tmp_path / "beside", "controller run", {"search": learner.state()})
    learner.start_from(learner.params, tmp_path / "beside")
    assert not learner._fits
    learner.start_from(learner.params, tmp_path / "none")
    assert learner._fits


def test_an_update_depends_on_nothing_but_the_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    straight, stopped = made(monkeypatch), made(monkeypatch)
    for learner in (straight, stopped):
        learner.update()
    checkpoint.save(tmp_path / "file", "anything", stopped.state())
    resumed = made(monkeypatch)
    resumed.load(checkpoint.load(tmp_path / "file", "anything"), tmp_path / "file")
    for _ in range(2):
        expected, found = straight.update(), resumed.update()
        assert {name: float(value) for name, value in expected.items()} == {n: float(v) for n, v in found.items()}
    assert resumed.step == 3 and np.array_equal(straight.params, resumed.params)


def test_how_the_environment_failed_is_told(learner: RealPPO) -> None:
    learner.update()
    assert learner._failures and set(learner._failures) == {"it stumbled"}


def test_episodes_of_one_decision_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    short = lambda task: [one._replace(feat=one.feat[:1], over=False) for one in played(task)]  # noqa: E731
    learner = made(monkeypatch)
    monkeypatch.setattr("worldmodels.learners.ppo_real.play", short)
    with pytest.raises(UserError, match="no episode has two decisions to learn from; give more --max-steps"):
        learner.update()
