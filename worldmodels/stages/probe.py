"""What does a representation know?  worldmodels probe --run RUN [RUN ...]

Regression from frozen features (HRSSM section 7) to the true physical state and to the reward: linear (ridge), and
nonlinear (a small network), which also finds what lies there folded up. It is fitted on fresh episodes of a blind
policy in front of training backgrounds, and scored on others in front of test backgrounds. Two models are compared
this way without evolving a controller for each, and a V before there is an M.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from worldmodels import models
from worldmodels.acting.agents import BlindAgent
from worldmodels.acting.policies import POLICIES, paper_policy
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.core import files
from worldmodels.core.device import prepare_device
from worldmodels.core.errors import UserError, nearest
from worldmodels.core.report import names_of, paths, say
from worldmodels.core.seeding import Noise, integer
from worldmodels.envs.clips import check_test_clips
from worldmodels.envs.reused import numbers_in_an_action, reused
from worldmodels.evolution.evaluators import BlindTask
from worldmodels.models.base import Vision, WorldModel
from worldmodels.models.perceive import perceive
from worldmodels.settings.commands import ProbeConfig
from worldmodels.settings.environments import record_of, records, refuse_untyped
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.presets import preset_of, usual_steps
from worldmodels.settings.stages import CollectConfig
from worldmodels.show import pages, plots
from worldmodels.show.record import Record
from worldmodels.stages.regression import READERS, Truth, linear, r_squared
from worldmodels.workers.local import Workers

GROUP = 4  # episodes per worker's task
DIRECTIONS = 128  # of pictures, in which they vary most
PICTURES = "pictures"  # the row that tells what is to be found in these
UNSEEN = 0.03  # of R² that the second half of the fitted episodes adds, from which on a third would add, too

Results = dict[str, dict[str, tuple[float, float]]]
"""column -> quantity -> (R², half width of its interval)"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """One episode as it was seen, and as it truly was."""

    obs: np.ndarray  # uint8 (T+1, 64, 64, 3)
    action: np.ndarray  # float32 (T, A)
    truth: Truth  # "reward" on arrival


def probe(config: ProbeConfig) -> Results:
    """Plays, fits and scores; prints the table and draws it.

    Returns:
        column -> quantity -> (R², half width of its 95 % confidence interval over test episodes).
    """
    torch.set_num_threads(max(1, config.workers))
    spec = _common_spec(config)
    policy = _policy(config, spec.name)
    subjects = [_subject(config, run, name, spec) for run, name in zip(config.run, names_of(config.run), strict=True)]
    with (
        Workers(config.workers) as workers,
        tqdm(total=2 * config.episodes, unit="episode", desc="play") as bar,
    ):
        fitted = _play_all(workers, spec, policy, config, "fit", bar)
        scored = _play_all(workers, spec.tested(), policy, config, "score", bar)
    truth = [seen.truth for seen in fitted]
    truth_of_scored = [seen.truth for seen in scored]
    results: Results = {}
    halves: Results = {}
    half = config.episodes // 2
    for name, (fit_on, score_on) in _shown(subjects, fitted, scored, config.seed):
        readers = {"": linear} if name == PICTURES else READERS  # what all pixels hold, folded up, says nothing
        for reader, read in readers.items():
            results[name + reader] = r_squared(fit_on, score_on, truth, truth_of_scored, config.seed, read)
        halves[name] = r_squared(fit_on[:half], score_on, truth[:half], truth_of_scored, config.seed)
    _report(config, spec, policy, results, halves, _frames(scored))
    return results


@dataclasses.dataclass(frozen=True)
class Subject:
    """What of a run is probed."""

    name: str
    sees: Vision[Any] | WorldModel  # V alone, where there is no M
    inputs: tuple[str, ...]  # of M's features; none where there is no M
    device: torch.device

    def look(self, episodes: list[Seen], seed: int) -> dict[str, list[np.ndarray]]:
        """Features along real episodes, by what they are called; of each episode float32 (T+1, F)."""
        if isinstance(self.sees, Vision):
            return {"code": _codes(self.sees, see(self.sees, episodes, self.device))}
        kinds = {"code": ("code",), " ".join(self.inputs): self.inputs}
        return dict(zip(kinds, features(self.sees, episodes, tuple(kinds.values()), seed), strict=True))


def _shown(
    subjects: list[Subject], fitted: list[Seen], scored: list[Seen], seed: int
) -> Iterator[tuple[str, tuple[list[np.ndarray], list[np.ndarray]]]]:
    """What is to be read, by its name: of the fitted episodes and of the scored, (T+1, F) each."""
    for subject in subjects:
        fit_on = subject.look(fitted, seed)
        score_on = subject.look(scored, seed)
        for kind, feats in fit_on.items():
            yield f"{subject.name}: {kind}", (feats, score_on[kind])
    yield PICTURES, pictures(fitted, scored, seed)


def pictures(fitted: list[Seen], scored: list[Seen], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The frames of episodes themselves, grey and half as large, in the directions in which the fitted ones vary most.

    A yardstick: features that tell no more than this tell nothing that a reader of pixels would not find.

    Returns:
        Of both, per episode, float32 (T+1, at most 128).
    """
    from sklearn.decomposition import PCA  # late: only the probe needs it

    grey = [[_grey(seen.obs) for seen in episodes] for episodes in (fitted, scored)]
    frames = np.concatenate(grey[0])
    luck = integer(seed, "probe pictures") % 2**32
    main = PCA(min(DIRECTIONS, *frames.shape), svd_solver="randomized", random_state=luck).fit(frames)
    fit_on, score_on = ([main.transform(x).astype(np.float32) for x in episodes] for episodes in grey)
    return fit_on, score_on


def _grey(obs: np.ndarray) -> np.ndarray:
    """uint8 (T+1, 64, 64, 3) -> float32 (T+1, 1024)."""
    grey = torch.from_numpy(obs).float().mean(-1, keepdim=True).movedim(-1, 1)
    found: np.ndarray = torch.nn.functional.avg_pool2d(grey, 2).flatten(1).numpy()
    return found


def _subject(config: ProbeConfig, run: Path, name: str, spec: EnvSpec) -> Subject:
    """V, and M if the run has one. Raises UserError if what is asked of M cannot be told."""
    device = prepare_device(config.device)
    memory = run / models.FILES[1]
    if memory.is_file():
        model = models.load(run, device, spec.label, "fp32")
        return Subject(name, model, _inputs(config, run, model), device)
    if config.inputs:
        raise UserError(f"--inputs {' '.join(config.inputs)} are features of an M, and {memory} does not exist")
    vision, _ = models.load_module(run / "vision", "vision")
    return Subject(name, vision.to(device), (), device)


def _common_spec(config: ProbeConfig) -> EnvSpec:
    """The environment that all runs were trained in. Raises UserError if they were trained in several."""
    first = config.run[0]
    specs = {run: _spec(run, config) for run in config.run}
    for run, other in specs.items():
        if dataclasses.replace(other, videos=specs[first].videos) != specs[first]:
            raise UserError(
                f"--run {run} was trained in {other.label}, {first} in {specs[first].label}; not comparable",
            )
    return specs[first]


def _inputs(config: ProbeConfig, run: Path, model: WorldModel) -> tuple[str, ...]:
    """The parts of a model's features that are probed. Raises UserError if it has no such part."""
    parts = config.inputs or model.default_inputs
    for part in parts:
        if part not in model.feat_sizes:
            raise UserError(f"--inputs {part} is not a feature of {run}: {', '.join(model.feat_sizes)}")
    return parts


@torch.no_grad()
def see(model: Vision[Any] | WorldModel, episodes: list[Seen], device: torch.device) -> list[Tensor]:
    """Embeddings of all frames of each episode, (T+1, E), on the device where the model is."""
    shown = tqdm(episodes, desc="see", leave=False)
    return [model.encode(torch.from_numpy(episode.obs).to(device)) for episode in shown]


def _codes(model: Vision[Any] | WorldModel, embeds: list[Tensor]) -> list[np.ndarray]:
    """What V alone makes of frames, without its variance."""
    return [embed[:, : model.code_size].float().cpu().numpy() for embed in embeds]


@torch.no_grad()
def features(
    model: WorldModel, episodes: list[Seen], kinds: tuple[tuple[str, ...], ...], seed: int
) -> list[list[np.ndarray]]:
    """Features along real episodes with eyes open.

    Args:
        model: what sees and remembers.
        episodes: to be seen.
        kinds: parts of `model.feat_sizes` each; ("code",) is what V alone makes of a frame, without its
            variance.
        seed: of the model's noise.

    Returns:
        For each kind, per episode, float32 (T+1, F).
    """
    device = model.starts.device
    embeds = see(model, episodes, device)
    noise = Noise([integer(seed, "probe noise", i) for i in range(len(episodes))], model.noise_size, device)
    found: dict[tuple[str, ...], list[np.ndarray]] = {kind: [] for kind in kinds if kind != ("code",)}
    for state in perceive(model, embeds, [torch.from_numpy(e.action) for e in episodes], noise):
        for kind, rows in found.items():
            rows.append(model.features(state, kind).float().cpu().numpy())
    codes = _codes(model, embeds)
    return [_by_episode(found[kind], episodes) if kind in found else codes for kind in kinds]


def _by_episode(rows: list[np.ndarray], episodes: list[Seen]) -> list[np.ndarray]:
    """What was found of all episodes at each step, (E, F), as what was found of each: (T+1, F)."""
    whole = np.stack(rows, 1)
    return [series[: len(episode.obs)] for series, episode in zip(whole, episodes, strict=True)]


def _play_all(
    workers: Workers,
    spec: EnvSpec,
    policy: str,
    config: ProbeConfig,
    purpose: str,
    bar: "tqdm[Any]",
) -> list[Seen]:
    limit = config.max_steps or usual_steps(CollectConfig, spec.name, "laptop", spec.action_repeat)
    seeds = [integer(config.seed, "probe", purpose, i) for i in range(config.episodes)]
    tasks = [BlindTask(spec, policy, limit, seeds[i : i + GROUP]) for i in range(0, len(seeds), GROUP)]
    groups = workers.map(play, tasks, lambda group: bar.update(len(group)))
    return [seen for group in groups for seen in group]


def play(task: BlindTask) -> list[Seen]:
    """A worker's task: a blind policy's episodes, one per seed."""
    envs = reused(task.env, 1, truth=True)
    agent = BlindAgent(task.policy, numbers_in_an_action(envs[0]))
    outcomes = rollout(envs, agent, task.seeds, task.max_steps, record=True, truth=True)
    return [_seen(outcome) for outcome in outcomes]


def _seen(outcome: Outcome) -> Seen:
    assert outcome.episode and outcome.truth  # `play` asks for both
    reward = np.append(np.float32(0), outcome.episode.reward)[:, None]
    return Seen(outcome.episode.obs, outcome.episode.action, outcome.truth | {"reward": reward})


def _spec(run: Path, config: ProbeConfig) -> EnvSpec:
    """The environment that a run was trained in, before clips that may lie elsewhere by now."""
    _, about = models.load_module(run / "vision", "vision")
    spec = EnvSpec(**about["spec"])
    refuse_untyped(spec.name, run / "vision")
    if not record_of(spec.name).tells_truth:
        able = ", ".join(record.title for record in records() if record.tells_truth)
        raise UserError(f"--run {run}: --env {spec.name} cannot tell its true state; these can: {able}")
    spec = spec.with_videos(config.distractor_videos)
    check_test_clips(spec, about["clips"])
    return spec


def _policy(config: ProbeConfig, env: str) -> str:
    policy = config.policy or preset_of(CollectConfig, env, "laptop").get("policy", "paper")
    policy = paper_policy(env) if policy == "paper" else policy
    if policy not in POLICIES:
        raise UserError(f"--policy {policy} is unknown; {nearest(policy, ['paper', *POLICIES])}")
    return policy


def _frames(scored: list[Seen]) -> dict[str, int]:
    """In how many scored frames there is each quantity."""
    return {
        name: sum(int((~np.isnan(episode.truth[name])).all(1).sum()) for episode in scored) for name in scored[0].truth
    }


def _report(
    config: ProbeConfig, spec: EnvSpec, policy: str, results: Results, halves: Results, frames: dict[str, int]
) -> None:
    quantities = list(next(iter(results.values())))
    about = f"{config.episodes} episodes of the {policy} policy to fit, {config.episodes} to score, ± 95 %"
    title = f"R² of a linear probe and of a nonlinear one, {spec.label}; {about}"
    folder = config.run[0]
    chart = folder / "probe.png"
    files.sweep(folder)
    record = Record(folder / "probe.json", "probe", config)
    record.table(title, *_cells(results, halves, quantities, frames))
    if left_out := [name for name in frames if name not in quantities]:
        record.note(f"note: not scored, for it does not vary or is too rare: {', '.join(left_out)}")
    record.note(*_too_few(results, halves))
    plots.grouped(chart, results, f"What a probe finds, {spec.label}", "R²")
    record.plot(chart, "R² of a map from features to the true state")
    say(paths(table=record.path, plot=chart))
    record.keep(
        env=spec.label,
        episodes=config.episodes,
        policy=policy,
        seed=config.seed,
        frames=frames,
        r2=results,
        r2_by_half=halves,
    )
    pages.close(record, folder)


def _of_state(result: dict[str, tuple[float, float]], alike: Iterable[str] = ()) -> float:
    """R² of all quantities but the reward, in mean; of those `alike` only, if some are named."""
    names = set(result) & set(alike or result) - {"reward"}
    return float(np.mean([result[name][0] for name in result if name in names]))


def _too_few(results: Results, halves: Results) -> list[str]:
    """Of whom more episodes would find more: what is told of them is no measure of what they do not know."""
    gains = {name: _of_state(results[name], by_half) - _of_state(by_half) for name, by_half in halves.items()}
    growing = [name for name, gain in gains.items() if gain > UNSEEN and name != PICTURES]
    if not growing:
        return []
    return [
        f"note: half of these episodes to fit on find less ({', '.join(growing)}), so more --episodes would find more:"
        " this tells what is known at least, and no more than that"
    ]


def _cells(
    results: Results, halves: Results, quantities: list[str], frames: dict[str, int]
) -> tuple[list[str], list[list[str]]]:
    """Header and rows; whatever there is more of goes down."""
    rows = [
        ["", *quantities, "mean but reward", "by half to fit"],
        ["frames scored", *(str(frames[name]) for name in quantities), "", ""],
    ]
    for series, result in results.items():
        scores = [f"{score:.3f} ± {width:.3f}" for score, width in result.values()]
        by_half = f"{_of_state(halves[series]):.3f}" if series in halves else ""
        rows.append([series, *scores, f"{_of_state(result):.3f}", by_half])
    if len(rows[0]) > len(rows):
        rows = [list(column) for column in zip(*rows, strict=True)]
    header, *others = rows
    return header, others
