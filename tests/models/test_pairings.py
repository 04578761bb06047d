"""Any V with any M: the four combinations train, dream, act and are scored by the same calls."""

import contextlib
import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import PAIRS, SMALL, World
from tests.dreams.test_capture import by_hand
from worldmodels import models
from worldmodels.acting.agents import ModelAgent
from worldmodels.acting.controller import Controller
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.core.errors import UserError
from worldmodels.core.seeding import Noise, rng
from worldmodels.data.embeddings import Embeddings
from worldmodels.data.rollouts import Rollouts
from worldmodels.dreams.capture import Captured
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.dream_env import DreamEnv
from worldmodels.dreams.planning import Planner
from worldmodels.evolution.evaluators import DreamEvaluator
from worldmodels.models import base
from worldmodels.models.hrssm import HRSSM
from worldmodels.models.recurrent import RSSMMemory
from worldmodels.models.rssm import Recurrence
from worldmodels.models.worlds import worlds_of
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import HRSSMSettings
from worldmodels.settings.planning import ByPlan
from worldmodels.settings.stages import MemoryConfig, VisionConfig
from worldmodels.stages.train_controller import train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request, pairs) -> World:
    return pairs[request.param]


@pytest.fixture
def model(pair: World):
    return models.load(pair.run, precision="fp32")


def test_it_keeps_the_protocol(model) -> None:
    state = model.initial(5)
    embed, noise = model.starts[[0] * 5], torch.full((5, model.noise_size), 0.3)
    nothing, first = torch.zeros(5, 1), torch.ones(5, 1)
    for now in (model.observe(state, nothing, embed, first, noise), model.imagine(state, nothing, noise).state):
        assert set(now) == set(state)
        assert all(now[k].shape == state[k].shape and len(now[k]) == 5 for k in state)
        for part, size in model.feat_sizes.items():
            assert model.features(now, (part,)).shape == (5, size)
        whole = model.features(now, tuple(model.feat_sizes))
        assert whole.shape == (5, sum(model.feat_sizes.values())) and torch.isfinite(whole).all()
        assert model.decode(now).shape == (5, 64, 64, 3) and model.decode(now).dtype == torch.uint8
    dreamt = model.imagine(state, nothing, noise)
    assert dreamt.reward.shape == dreamt.end.shape == dreamt.terminated.shape == (5,)
    assert ((dreamt.end >= 0) & (dreamt.end <= 1)).all() and dreamt.terminated.dtype == torch.bool
    assert set(model.default_inputs) <= set(model.feat_sizes)
    obs = torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8)
    assert model.encode(obs).shape == (2, 3, model.starts.shape[1]) and model.code_size <= model.starts.shape[1]


def test_in_bf16_a_model_sees_and_expects_what_it_does_in_fp32(pair: World, model) -> None:
    low = models.load(pair.run, precision="bf16")
    assert low.memory.state_dict().keys() == model.memory.state_dict().keys()
    assert any(value.dtype == torch.bfloat16 for value in low.state_dict().values())
    obs = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen, expected = low.encode(obs), model.encode(obs)
    assert seen.dtype == torch.float32 and (seen - expected).abs().mean() < 0.01 * expected.std()
    noise, nothing, first = torch.full((8, model.noise_size), 0.3), torch.zeros(8, 1), torch.ones(8, 1)
    for part in model.default_inputs:
        ours, theirs = (
            m.features(
                m.imagine(m.observe(m.initial(8), nothing, expected, first, noise), nothing, noise).state, (part,)
            )
            for m in (low, model)
        )
        assert (ours - theirs).abs().mean() < 0.02 * max(float(theirs.std()), 0.1)


def test_a_dream_is_the_model_stepped_by_hand(model) -> None:
    seeds = [3, 4]
    dream = Dream(model, tau=1.3)
    dream.begin(seeds)
    noise = Noise(seeds, model.noise_size + 1)
    starts = model.starts[[int(rng(s, "start").integers(len(model.starts))) for s in seeds]]
    state = model.observe(model.initial(2), torch.zeros(2, 1), starts, torch.ones(2, 1), noise.draw()[:, :-1])
    state |= worlds_of(model, seeds, dropout=0.0)
    for t in range(10):
        parts = tuple(model.feat_sizes)
        assert torch.equal(dream.features(parts), model.features(state, parts))
        action = torch.full((2, 1), np.sin(t))
        reward, terminated = dream.step(action)
        state, expected, _, ended = model.imagine(state, action, noise.draw()[:, :-1], 1.3)
        assert torch.equal(reward, expected) and torch.equal(terminated, ended)


def test_a_step_of_a_dream_asks_the_host_nothing(pair: World, model, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be a CUDA graph: on tensors without data, whatever asks for a value fails."""
    monkeypatch.setattr(base, "autocast", lambda *_: contextlib.nullcontext())  # knows no such device
    spec = ControllerSpec(EnvSpec("doom"), pair.run, model.default_inputs, 0, True, 10, "fp32")
    ghost = copy.deepcopy(model).to("meta")
    evaluator = DreamEvaluator(ghost, spec, 1.3, sample_end=True)
    rows = {name: value.to("meta") for name, value in model.initial(5).items()}
    params = torch.zeros(5, spec.controller(model).num_params, device="meta")
    alive, paid = torch.ones(5, dtype=torch.bool, device="meta"), torch.zeros(5, dtype=torch.float64, device="meta")
    noise = torch.zeros(5, model.noise_size + 1, device="meta")
    state, _, still, returns, _ = evaluator.player.advance(rows, params, alive, paid, paid, noise)
    assert {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in rows.items()}
    assert still.dtype == torch.bool and returns.dtype == torch.float64


def test_eyes_open_at_an_episodes_beginning_nothing_before_counts(model) -> None:
    noise, embed = torch.full((2, model.noise_size), 0.3), model.starts[[0, 0]]
    first, action = torch.ones(2, 1), torch.tensor([[1.0], [-1.0]])
    before = model.initial(2)
    wild = {name: torch.randn_like(value) for name, value in before.items()}
    a, b = (model.observe(s, action, embed, first, noise) for s in (before, wild))
    parts = model.default_inputs
    assert torch.allclose(model.features(a, parts), model.features(b, parts), atol=1e-5)
    assert torch.allclose(model.features(a, parts)[0], model.features(a, parts)[1], atol=1e-5)


def test_acting_advances_memory_as_dreaming_does(model) -> None:
    inputs = model.default_inputs
    width = sum(model.feat_sizes[part] for part in inputs)
    agent = ModelAgent(model, Controller(width, 1, 0, False), inputs, np.zeros(width))
    agent.begin([1])
    obs = np.zeros((1, 64, 64, 3), np.uint8)
    action = torch.from_numpy(agent.act(obs, [0], 0))
    first = dict(agent.state)
    agent.act(obs, [0], 1)
    dreamt = model.imagine(first, action, torch.full((1, model.noise_size), 0.5))
    assert torch.allclose(agent.state["h"], dreamt.state["h"], atol=1e-6)


def test_scores_depend_neither_on_order_nor_on_who_else_dreams(pair: World, model) -> None:
    inputs = model.default_inputs
    spec = ControllerSpec(EnvSpec("doom"), pair.run, inputs, 0, False, 20, "fp32")
    evaluator = DreamEvaluator(model, spec, tau=1.0, sample_end=True)
    params = np.random.default_rng(0).normal(0, 1, (5, spec.controller(model).num_params))
    seeds, order = [10, 11, 12], [4, 0, 2, 1, 3]
    scores = evaluator.evaluate(params, seeds)
    assert np.array_equal(evaluator.evaluate(params[order], seeds).lengths, scores.lengths[order])
    assert np.array_equal(evaluator.evaluate(params[2:3], seeds).lengths[0], scores.lengths[2])
    evaluator.player.records, evaluator.player.step = True, Captured(evaluator.player.advance, by_hand)
    assert np.array_equal(evaluator.evaluate(params, seeds).lengths, scores.lengths)


def test_temperature_widens_what_is_dreamt(model) -> None:
    def spread(tau: float) -> float:
        """Variance between dreams of what follows the same start with the same action."""
        dream = Dream(model, tau)
        dream.begin(list(range(400)))
        start = {name: value[:1].expand(400, *value.shape[1:]).clone() for name, value in dream.state.items()}
        dream.state = start
        dream.step(torch.zeros(400, 1))
        return float(dream.features(("z",)).var(0).sum())

    assert spread(0.1) < spread(1.0) < spread(4.0)


def test_each_dream_can_be_a_world_of_its_own(pair: World, model) -> None:
    if not pair.memory.model.dropout:
        with pytest.raises(UserError, match=r"--dream-dropout 0\.3: M was not trained with --dropout"):
            Dream(model, dropout=0.3)
        return
    dream = Dream(model, dropout=0.3)
    dream.begin([1, 2, 1, 3], copies=2)
    assert set(dream.state) == {*model.initial(1), "world", *(["member"] if model.members > 1 else [])}
    world = dream.state["world"]
    assert torch.equal(world[0], world[2]) and torch.equal(world[:4], world[4:]) and (world[0] != world[1]).any()
    assert float((world == 0).float().mean()) == pytest.approx(0.3, abs=0.15)
    state = {name: value[:1].repeat(2, 1) for name, value in dream.state.items() if name in model.initial(1)}
    noise = torch.full((2, model.noise_size), 0.4)
    plain = model.imagine(state, torch.ones(2, 1), noise)
    odd = model.imagine(state | {"world": world[:2]}, torch.ones(2, 1), noise)
    assert torch.equal(odd.state["world"], world[:2]) and "world" not in plain.state
    assert torch.allclose(plain.state["h"][0], plain.state["h"][1], atol=1e-6)
    assert not torch.allclose(odd.state["h"][0], odd.state["h"][1], atol=1e-4)
    assert not torch.allclose(odd.state["h"], plain.state["h"], atol=1e-4)
    hidden = world[0, : state["z"].shape[1]] == 0  # of z, by which nothing then changes
    changed = {"z": state["z"][:1] + 3 * hidden} | {name: value[:1] for name, value in state.items() if name != "z"}
    one = model.imagine(changed | {"world": world[:1]}, torch.ones(1, 1), noise[:1])
    assert torch.allclose(one.state["h"], odd.state["h"][:1], atol=1e-6)


def test_each_dream_is_one_members(pair: World, model) -> None:
    """Of an ensemble; all of them go by one memory, and what follows from it each expects in its own way."""
    dream = Dream(model)
    seeds = list(range(40))
    dream.begin(seeds, copies=2)
    assert model.members == pair.memory.model.members
    if model.members == 1:
        assert "member" not in dream.state
        return
    member = dream.state["member"]
    assert torch.equal(member[:40], member[40:]) and set(member.flatten().tolist()) == {0, 1}
    state = {name: value[:1].repeat(3, 1) for name, value in dream.state.items() if name != "member"}
    noise = torch.full((3, model.noise_size), 0.4)
    whose = torch.tensor([[0.0], [1.0], [1.0]])
    following = model.imagine(state | {"member": whose}, torch.ones(3, 1), noise)
    assert torch.equal(following.state["member"], whose)
    assert torch.allclose(following.state["h"][0], following.state["h"][1], atol=1e-6)
    expected = "stats" if "stats" in state else "z"
    assert torch.allclose(following.state[expected][1], following.state[expected][2], atol=1e-6)
    assert not torch.allclose(following.state[expected][0], following.state[expected][1], atol=1e-3)
    assert torch.allclose(
        model.imagine(state, torch.ones(3, 1), noise).state[expected], following.state[expected][:1], atol=1e-6
    )  # where nobody says whose, it is the first's
    one = Dream(model, member=1)
    one.begin(seeds)
    assert (one.state["member"] == 1).all()
    env = DreamEnv(model, 2, ("h",), member=1)
    env.reset(seed=0)
    assert (env.dream.state["member"] == 1).all()
    with pytest.raises(ValueError, match="member 2 is not among the 2 that this M has, from 0 on"):
        DreamEnv(model, 2, ("h",), member=2)
    with pytest.raises(UserError, match="member 2 is not among the 2"):
        Dream(model, member=2)


def test_plans_are_dreamt_by_any_member_and_the_same_for_all(pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(pairs["vae", "rssm"].run, precision="fp32")
    planner = Planner(model, ByPlan(plan="cem", plan_horizon=2, plan_candidates=4, plan_rollouts=3))
    seen = []
    dreamt = planner._dream.dreamt
    monkeypatch.setattr(planner._dream, "dreamt", lambda state, *more: seen.append(state) or dreamt(state, *more))
    state = {name: value.repeat(2, 1) for name, value in model.initial(1).items()}
    for seed in range(8):
        planner.decide(state, planner.idle(2), [np.random.default_rng([seed, row]) for row in range(2)])
    whose = torch.stack([one["member"].reshape(4, 3) for one in seen])  # of each row's 4 plans in 3 dreams
    assert (whose == whose[:, :1]).all() and set(whose.flatten().tolist()) == {0, 1}


def test_an_ensemble_on_an_hrssm_begins_with_what_v_expects(pairs) -> None:
    pair = pairs["hrssm", "rssm"]
    vision, _ = models.load_module(pair.run / "vision", "vision")
    settings = models.settled(pair.memory, vision).model
    many = dataclasses.replace(settings, members=3)
    memory = RSSMMemory.build(many, Rollouts(pair.data / "rollouts", "doom"), vision)
    begun = vision.recurrence
    assert isinstance(begun, Recurrence)
    h = torch.randn(4, many.hidden_size)
    assert torch.equal(memory.rssm.prior(h), begun.rssm.prior(h))
    for other in memory.rssm.other_priors:
        assert torch.equal(other[0](h), begun.rssm.prior_net[0](h)) and not torch.allclose(
            other(h), begun.rssm.prior(h)
        )
    taught = memory.train()._taught(5, torch.Generator().manual_seed(0), h.device)
    assert taught is not None and taught.shape == (5, 1, 1) and set(taught.flatten().tolist()) <= {0, 1, 2}
    tested = memory.eval()._taught(5, torch.Generator(), h.device)
    assert tested is not None and tested.flatten().tolist() == [0, 1, 2, 0, 1]


def test_it_is_evolved_scored_and_filmed(pair: World, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("vision", "memory"):
        (tmp_path / "run" / name).symlink_to(pair.run / name)
    worlds = pair.memory.model.dropout
    train_controller(
        pair.controller(run=tmp_path / "run", inputs=(), generations=1, real_episodes=0, dream_dropout=worlds)
    )
    folder = tmp_path / "run/controller/tau1.15"
    assert {p.name for p in folder.glob("*.mp4")} == {"dream.mp4", "reality.mp4"}
    obs, _ = DreamEnv(models.load(pair.run), 3, ("z",)).reset(seed=1)
    assert np.isfinite(obs).all()


@pytest.mark.parametrize("stage", ["vision", "memory"])
def test_the_robust_family_resumes_to_the_bit(
    pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    from tests.training.test_train import metrics, stop_at

    pair = pairs["hrssm", "rssm"]
    trainer = {"vision": train_vision, "memory": train_memory}[stage]
    config: VisionConfig | MemoryConfig = dataclasses.replace(getattr(pair, stage), run=tmp_path)
    if stage == "memory":
        (tmp_path / "vision").symlink_to(pair.run / "vision")
    stop_at(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        trainer(config)
    monkeypatch.undo()
    trainer(config)
    resumed, straight = (models.load_module(run / stage, stage)[0].state_dict() for run in (tmp_path, pair.run))
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    assert metrics(tmp_path / stage) == metrics(pair.run / stage)


def test_an_rssm_goes_on_from_the_hrssm_that_v_was_trained_with(pairs, tmp_path: Path) -> None:
    pair = pairs["hrssm", "rssm"]
    (tmp_path / "vision").symlink_to(pair.run / "vision")
    train_memory(
        dataclasses.replace(pair.memory, run=tmp_path, learning_rate=1e-12, final_learning_rate=1e-12, steps=1)
    )
    vision, memory = (models.load_module(tmp_path / kind, kind)[0] for kind in ("vision", "memory"))
    for name, value in vision.target_rssm.state_dict().items():
        assert torch.allclose(memory.rssm.state_dict()[name], value, atol=1e-6)
    assert torch.allclose(memory.reward_head.net[-1].weight, vision.reward_head.net[-1].weight, atol=1e-6)


def test_codes_of_people_only_teach_no_features_but_those_of_a_vae_do(pairs) -> None:
    for v, taught in (("vae", True), ("hrssm", False)):
        memory, _ = models.load_module(pairs[v, "rssm"].run / "memory", "memory")
        feat = torch.randn(2, memory.rssm.latent.size + memory.rssm.hidden_size, requires_grad=True)
        assert memory.explains == taught
        (memory.code(feat if memory.explains else feat.detach())[0].sum()).backward()
        assert (feat.grad is not None) == taught


def test_dreamt_rewards_stay_within_those_of_the_data(model, pair: World) -> None:
    if pair.memory.memory == "rssm":
        model.memory.settings = dataclasses.replace(model.memory.settings, reward="head")
        model.memory.reward_head.net[-1].bias.data[:] = torch.linspace(-50, 50, 255)  # sure of exp(20)
        dreamt = model.imagine(model.initial(3), torch.zeros(3, 1), torch.full((3, model.noise_size), 0.5))
        assert torch.equal(dreamt.reward, torch.ones(3))  # in Doom every step pays 1


def test_an_encoder_without_a_code_is_for_an_rssm_only(world: World, tmp_path: Path) -> None:
    vision = HRSSM(HRSSMSettings(depth=32, code_size=0, **SMALL), 1)
    models.save_module(vision, tmp_path / "vision", "vision", env="doom", spec=EnvSpec("doom").plain(), clips=[])
    with pytest.raises(UserError, match="codes of 4096 numbers, too many for --memory mdnrnn; train V with a --code"):
        train_memory(dataclasses.replace(world.memory, run=tmp_path))


def test_codes_are_those_of_the_branch_that_sees_clean_frames(pairs, world: World) -> None:
    run = pairs["hrssm", "rssm"].run
    vision, _ = models.load_module(run / "vision", "vision")
    from worldmodels.data.rollouts import Rollouts

    rollouts = Rollouts(world.data / "rollouts", "doom")
    shard = rollouts.shards[0]
    embeddings = Embeddings(world.data / "codes", rollouts, vision).read(shard, slice(3, 9))
    picture = torch.from_numpy(shard.read("obs", 3, 9)).permute(0, 3, 1, 2) / 255 - 0.5
    with torch.no_grad():
        expected, other = vision.target_encoder(picture).numpy(), vision.encoder(picture).numpy()
    assert np.allclose(embeddings, expected, atol=0.05)  # float16, bf16
    assert not np.allclose(other, expected, atol=0.05)  # else this would tell nothing
    assert json.loads((run / "vision/config.json").read_text())["vision"] == "hrssm"
