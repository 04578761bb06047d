"""What the agent sees and dreams, as films."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from worldmodels.acting.agents import BlindAgent, ModelAgent, Seeing
from worldmodels.acting.controller_spec import ControllerSpec
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.core.errors import UserError
from worldmodels.core.report import say
from worldmodels.core.seeding import Noise, integer
from worldmodels.data.episode import Episode
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.play import Player, by_controller
from worldmodels.envs import make_env
from worldmodels.envs.images import to_picture
from worldmodels.models.base import State, WorldModel
from worldmodels.models.perceive import perceive
from worldmodels.settings.envspec import EnvSpec
from worldmodels.show.video import DREAMS, SEES, Film, panels

MAX_FRAMES = 2100


def trouble(env: EnvSpec) -> str:
    """Why no film of this environment can be made here, or nothing if it can; tries it with one frame.

    This takes seconds. What only the last step of a stage needs is tried before its first, this way.
    """

    def watch(step: int, game: gymnasium.Env, obs: np.ndarray) -> None:
        film.add(panels({f"the game, step {step}": to_picture(game.render())}))

    try:
        with tempfile.TemporaryDirectory() as folder, Film(Path(folder) / "film.mp4") as film:
            game: Any = make_env(env)
            rollout([game], BlindAgent("still", game.action_space.shape[0]), [0], 1, watch=watch)
            game.close()
    except UserError as error:
        return str(error)
    return ""


def attempt(film: Callable[[], Any]) -> None:
    """Makes a film by calling `film`; if it cannot be made says why, for no score depends on it."""
    try:
        film()
    except UserError as error:
        say(f"note: {error}")


def reality(path: Path, model: WorldModel, spec: ControllerSpec, params: np.ndarray, seed: int) -> Outcome:
    """Films one real episode of a controller's: the game, what V is shown, and what it makes of it."""
    agent = ModelAgent(model, spec.controller(model), spec.inputs, params)
    return reality_of(path, agent, spec.env, spec.max_steps, seed)


def reality_of(path: Path, agent: Seeing, env: EnvSpec, max_steps: int, seed: int) -> Outcome:
    """The same of any agent that sees."""

    def watch(step: int, played: gymnasium.Env, obs: np.ndarray) -> None:
        if step >= MAX_FRAMES:
            return
        if step == 0:
            film.restart()  # an episode whose environment failed is played anew
        decoded = agent.model.decode(agent.state)[0].cpu().numpy()
        drawn = {f"the game, step {step}": to_picture(played.render())}
        film.add(panels(drawn | {"seen (64x64)": obs, "what V makes of it": decoded}))

    game = make_env(env)
    with Film(path) as film:
        outcome = rollout([game], agent, [seed], max_steps, watch=watch)[0]
    game.close()
    return outcome


def dream(
    path: Path,
    model: WorldModel,
    spec: ControllerSpec,
    params: np.ndarray,
    tau: float,
    seed: int,
    sample_end: bool = False,
) -> int:
    """Films one dream of the controller's; returns its length in steps."""
    controller = spec.controller(model)
    act = by_controller(model, controller, spec.inputs)
    player = Player(Dream(model, tau, sample_end), act, min(spec.max_steps, MAX_FRAMES))
    row = controller.given(torch.as_tensor(params, dtype=torch.float32, device=model.starts.device)[None])

    def watch(step: int, state: State) -> None:
        picture = model.decode(state)[0].cpu().numpy()
        label = f"dream, tau {tau:g}, step {step}"
        film.add(panels({label: picture}, border={label: DREAMS}))

    with Film(path) as film:
        player.play([seed], row, watch=watch)
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
    noise = Noise([integer(episode.seed, "film", "seen")], model.noise_size, embed.device)
    luck = Noise([integer(episode.seed, "film", "dreamt")], model.noise_size, embed.device)
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
