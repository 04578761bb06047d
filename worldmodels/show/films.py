"""What the agent sees and dreams, as films."""

from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import torch

from worldmodels.acting.actor import Actor
from worldmodels.acting.agents import ModelAgent
from worldmodels.acting.rollout import Outcome, rollout
from worldmodels.core.seeding import Noise, integer
from worldmodels.data.episode import Episode
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.perceive import perceive
from worldmodels.envs import make_env
from worldmodels.models.base import State, WorldModel
from worldmodels.show.video import DREAMS, SEES, Film, panels

MAX_FRAMES = 2100


def reality(path: Path, model: WorldModel, actor: Actor, params: np.ndarray, seed: int) -> Outcome:
    """Films one real episode: the game, what V is shown, and what it makes of it."""
    agent = ModelAgent(model, actor.controller(model), actor.inputs, params)

    def watch(step: int, env: gymnasium.Env, obs: np.ndarray) -> None:
        if step >= MAX_FRAMES:
            return
        decoded = model.decode(agent.state)[0].cpu().numpy()
        game = {f"the game, step {step}": np.asarray(env.render())}
        film.add(panels(game | {"seen (64x64)": obs, "what V makes of it": decoded}))

    env = make_env(actor.env)
    with Film(path) as film:
        outcome = rollout([env], agent, [seed], actor.max_steps, watch=watch)[0]
    env.close()
    return outcome


@torch.no_grad()
def dream(
    path: Path, model: WorldModel, actor: Actor, params: np.ndarray, tau: float, seed: int, sample_end: bool = False
) -> int:
    """Films one dream of the controller's; returns its length in steps."""
    controller = actor.controller(model)
    row = torch.as_tensor(params, dtype=torch.float32, device=model.starts.device)[None]
    world = Dream(model, tau, sample_end)
    world.begin([seed])
    with Film(path) as film:
        for step in range(min(actor.max_steps, MAX_FRAMES)):
            picture = world.pictures()[0].cpu().numpy()
            label = f"dream, tau {tau:g}, step {step}"
            film.add(panels({label: picture}, border={label: DREAMS}))
            _, terminated = world.step(controller.act(row, world.features(actor.inputs)))
            if terminated[0]:
                break
    return film.length


def open_loop(path: Path, model: WorldModel, episode: Episode, eyes_open: int = 30) -> None:
    """Films a real episode beside a dream of the same actions that shuts its eyes after `eyes_open` steps."""
    with Film(path, fps=20) as film:
        for frame in _open_loop_frames(model, episode, eyes_open):
            film.add(frame)


@torch.no_grad()
def _open_loop_frames(model: WorldModel, episode: Episode, eyes_open: int) -> Iterator[np.ndarray]:
    frames = min(len(episode), 300)
    embed = model.encode(torch.from_numpy(episode.obs[:frames]).to(model.starts.device))
    action = torch.from_numpy(episode.action).to(embed.device)
    noise, luck = (
        Noise([integer(episode.seed, "film", name)], model.noise_size, embed.device) for name in ("seen", "dreamt")
    )
    dreamt: State = {}
    for t, seen in enumerate(perceive(model, [embed], [action], noise)):
        sees = t < eyes_open
        dreamt = seen if sees else model.imagine(dreamt, action[t - 1 : t], luck.draw()).state
        pictures = {
            f"reality, step {t}": episode.obs[t],
            "what V makes of it": model.decode(seen)[0].cpu().numpy(),
            "eyes open" if sees else "dream": model.decode(dreamt)[0].cpu().numpy(),
        }
        label = list(pictures)[-1]
        yield panels(pictures, border={label: SEES if sees else DREAMS})
