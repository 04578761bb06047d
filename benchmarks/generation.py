"""What a worker does in a generation of stage 4: V, M, C and the environment; beside one row at a time, and bare."""

from collections.abc import Iterator

import gymnasium
import numpy as np
import torch

from benchmarks.carracing import small, to_native
from benchmarks.dream import doom_parts, paired
from benchmarks.measure import Row, Work
from worldmodels.acting.agents import BlindAgent, ModelAgent
from worldmodels.acting.controller import Controller
from worldmodels.acting.rollout import rollout
from worldmodels.envs import make_env
from worldmodels.envs.images import Shrunk
from worldmodels.models.base import WorldModel
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.models import MDNRNNSettings, VAESettings

LOCKSTEP, STEPS = 8, 100


def rows() -> Iterator[Row]:
    for name, parts, of_limit in (("carracing", carracing_parts, 0.75), ("doom", doom_parts, 0.35)):
        model = paired(*parts())
        plain = paired(*parts(), precision="fp32").to(memory_format=torch.contiguous_format)  # torch's usual layout
        envs = [make_env(EnvSpec(name), shrink=False) for _ in range(LOCKSTEP)]
        single = gymnasium.make("CarRacing-v3") if name == "carracing" else Shrunk(envs[0])
        yield Row(
            f"generation, real {name}", "steps/s", lockstep(envs, model), one_at_a_time(single, plain),
            alone([Shrunk(env) for env in envs]),
            3.0, of_limit,
        )  # fmt: skip
        for env in {*envs, single}:
            env.close()


def carracing_parts() -> tuple[VAE, MDNRNN]:
    return VAE(VAESettings(code_size=32)), MDNRNN(MDNRNNSettings(hidden_size=256), 32, 3)


def lockstep(envs: list[gymnasium.Env], model: WorldModel) -> Work:
    """As evaluators.play_group."""
    parts = model.default_inputs
    controller = Controller(sum(model.feat_sizes[part] for part in parts), model.action_size)
    params = np.random.default_rng(0).normal(0, 0.1, (LOCKSTEP, controller.num_params)).astype(np.float32)
    agent = ModelAgent(model, controller, parts, params)
    return lambda: sum(outcome.length for outcome in rollout(envs, agent, list(range(LOCKSTEP)), STEPS))


def alone(envs: list[gymnasium.Env]) -> Work:
    """The environment, and nobody who looks."""
    agent = BlindAgent("held", envs[0].action_space.shape[0])
    return lambda: sum(outcome.length for outcome in rollout(envs, agent, list(range(LOCKSTEP)), STEPS))


def one_at_a_time(env: gymnasium.Env, model: WorldModel) -> Work:
    """The obvious code: one environment, batches of one, fp32."""
    width = sum(model.feat_sizes[part] for part in model.default_inputs)
    weight = torch.randn(model.action_size, width) * 0.1

    @torch.no_grad()
    def play() -> float:
        steps = 0
        for seed in range(2):
            obs = small(env.reset(seed=seed)[0])
            state, action = model.initial(1), torch.zeros(1, model.action_size)
            for step in range(STEPS):
                embed, first = model.encode(torch.from_numpy(obs)[None]), torch.full((1, 1), float(step == 0))
                state = model.observe(state, action, embed, first, torch.rand(1, model.noise_size))
                action = torch.tanh(model.features(state, model.default_inputs) @ weight.T)
                chosen = action[0].numpy()
                obs, _, terminated, truncated, _ = env.step(to_native(chosen) if len(chosen) == 3 else chosen)
                obs = small(obs)
                steps += 1
                if terminated or truncated:
                    break
        return steps

    return play
