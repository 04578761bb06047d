"""What does a representation know?  worldmodels probe --run RUN [RUN ...]

Ridge regression from frozen features (HRSSM section 7) to the true physical state and to the reward. It is
fitted on fresh episodes of a blind policy in front of training backgrounds, and scored on others in front of
test backgrounds. Two models are compared this way without evolving a controller for each.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldmodels import models
from worldmodels.acting.agents import BlindAgent
from worldmodels.acting.policies import POLICIES, paper_policy
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.core import files
from worldmodels.core.device import prepare_device
from worldmodels.core.errors import UserError, nearest
from worldmodels.core.report import paths, say, table
from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.envs.distract import check_test_clips
from worldmodels.envs.reused import numbers_in_an_action, reused
from worldmodels.evolution.evaluators import BlindTask
from worldmodels.models.base import WorldModel
from worldmodels.models.perceive import perceive
from worldmodels.settings.config import CollectConfig, ProbeConfig
from worldmodels.settings.environments import record_of, records, refuse_untyped
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.presets import preset_of
from worldmodels.show import plots
from worldmodels.workers.local import Workers

STRENGTHS = 10.0 ** np.arange(-1, 7)  # of the ridge; chosen on a quarter of the fitted episodes
RESAMPLES = 200
GROUP = 4  # episodes per worker's task


Results = dict[str, dict[str, tuple[float, float]]]
"""column -> quantity -> (R², half width of its interval)"""


@dataclasses.dataclass(frozen=True)
class Seen:
    """One episode as it was seen, and as it truly was."""

    obs: np.ndarray  # uint8 (T+1, 64, 64, 3)
    action: np.ndarray  # float32 (T, A)
    truth: dict[str, np.ndarray]  # name -> float32 (T+1, n); "reward" on arrival


def probe(config: ProbeConfig) -> Results:
    """Plays, fits and scores; prints the table and draws it.

    Returns:
        column -> quantity -> (R², half width of its 95 % confidence interval over test episodes).
    """
    torch.set_num_threads(max(1, config.workers))
    spec = _common_spec(config)
    policy = _policy(config, spec.name)
    loaded = {run: models.load(run, prepare_device(config.device), spec.label, "fp32") for run in config.run}
    inputs = {run: _inputs(config, run, model) for run, model in loaded.items()}
    with (
        Workers(config.workers) as workers,
        tqdm(total=2 * config.episodes, unit="episode", desc="play") as bar,
    ):
        fitted = _play_all(workers, spec, policy, config, "fit", bar)
        scored = _play_all(workers, spec.tested(), policy, config, "score", bar)
    results: Results = {}
    for run, name in _names(config.run).items():
        kinds = {"code": ("code",), " ".join(inputs[run]): inputs[run]}
        fit_on = features(loaded[run], fitted, tuple(kinds.values()), config.seed)
        score_on = features(loaded[run], scored, tuple(kinds.values()), config.seed)
        for i, kind in enumerate(kinds):
            results[f"{name}: {kind}"] = r_squared(fit_on[i], score_on[i], fitted, scored, config.seed)
    _report(config, spec, policy, results)
    return results


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


def _names(runs: tuple[Path, ...]) -> dict[Path, str]:
    """What runs are called in the table: the folder's name, or its whole path where two have the same."""
    names = {run: run.name for run in runs}
    return names if len(set(names.values())) == len(names) else {run: str(run) for run in runs}


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
    shown = tqdm(episodes, desc="see", leave=False)
    embeds = [model.encode(torch.from_numpy(episode.obs).to(device)) for episode in shown]
    noise = Noise([integer(seed, "probe noise", i) for i in range(len(episodes))], model.noise_size, device)
    found: dict[tuple[str, ...], list[np.ndarray]] = {kind: [] for kind in kinds if kind != ("code",)}
    for state in perceive(model, embeds, [torch.from_numpy(e.action) for e in episodes], noise):
        for kind, rows in found.items():
            rows.append(model.features(state, kind).float().cpu().numpy())
    codes = [embed[:, : model.code_size].float().cpu().numpy() for embed in embeds]
    return [_by_episode(found[kind], episodes) if kind in found else codes for kind in kinds]


def _by_episode(rows: list[np.ndarray], episodes: list[Seen]) -> list[np.ndarray]:
    """What was found of all episodes at each step, (E, F), as what was found of each: (T+1, F)."""
    whole = np.stack(rows, 1)
    return [series[: len(episode.obs)] for series, episode in zip(whole, episodes, strict=True)]


def r_squared(
    fit_on: list[np.ndarray],
    score_on: list[np.ndarray],
    fitted: list[Seen],
    scored: list[Seen],
    seed: int,
) -> dict[str, tuple[float, float]]:
    """R² of every quantity on the scored episodes, with the half width of its bootstrap confidence interval.

    A quantity of several numbers counts in mean over those that vary.
    """
    predict = _ridge(fit_on, [_targets(e) for e in fitted])
    truth = [_targets(e) for e in scored]
    center = np.concatenate(truth).mean(0)
    errors = [((predict(feat) - true) ** 2).sum(0) for feat, true in zip(score_on, truth, strict=True)]
    error = np.array(errors)  # (episodes, targets)
    spread = np.array([((true - center) ** 2).sum(0) for true in truth])
    varies = spread.sum(0) > 1e-6 * len(np.concatenate(truth))
    generator = rng(seed, "bootstrap")
    draws = [generator.integers(len(error), size=len(error)) for _ in range(RESAMPLES)]
    samples = [np.arange(len(error)), *draws]  # the episodes as they are come first
    result: dict[str, tuple[float, float]] = {}
    start = 0
    for name, values in scored[0].truth.items():
        end = start + values.shape[1]
        columns = np.arange(start, end)[varies[start:end]]
        start = end
        if len(columns):
            score, *others = _scores(error[:, columns], spread[:, columns], samples)
            result[name] = (score, float(1.96 * np.std(others)))
    return result


def _scores(error: np.ndarray, spread: np.ndarray, samples: list[np.ndarray]) -> list[float]:
    """R² of a quantity in each sample of episodes, but for those in which one of its numbers stands still."""
    scores = []
    for episodes in samples:
        varied = spread[episodes].sum(0)
        if (varied > 0).all():
            scores.append(float(np.mean(1 - error[episodes].sum(0) / varied)))
    return scores


def _ridge(feats: list[np.ndarray], targets: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """A linear map, (N, F) to (N, targets), fitted to standardised features.

    Each target has a strength of its own: that which serves the first quarter of the episodes
    best, when fitted to the others.
    """
    from sklearn.linear_model import Ridge  # late: only the probe needs it
    from sklearn.preprocessing import StandardScaler

    back = max(1, len(feats) // 4)
    x = np.concatenate(feats[back:]).astype(np.float64)
    scaler = StandardScaler().fit(x)
    scaler.scale_ = np.sqrt(scaler.var_) + 1e-6  # so that what hardly varies is not blown up
    x = scaler.transform(x)
    y = np.concatenate(targets[back:]).astype(np.float64)
    held_x = scaler.transform(np.concatenate(feats[:back]).astype(np.float64))
    held_y = np.concatenate(targets[:back])
    errors = [((Ridge(strength).fit(x, y).predict(held_x) - held_y) ** 2).mean(0) for strength in STRENGTHS]
    best = STRENGTHS[np.argmin(errors, 0)]  # (targets,)
    ridge = Ridge(best).fit(x, y)
    return lambda feat: ridge.predict(scaler.transform(feat.astype(np.float64)))


def _targets(seen: Seen) -> np.ndarray:
    return np.concatenate(list(seen.truth.values()), 1)


def _play_all(
    workers: Workers,
    spec: EnvSpec,
    policy: str,
    config: ProbeConfig,
    purpose: str,
    bar: "tqdm[Any]",
) -> list[Seen]:
    limit = preset_of(CollectConfig, spec.name, "laptop")["max_steps"]
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


def _report(config: ProbeConfig, spec: EnvSpec, policy: str, results: Results) -> None:
    quantities = list(next(iter(results.values())))
    rows = []
    for series, result in results.items():
        state = np.mean([score for name, (score, _) in result.items() if name != "reward"])
        scores = [f"{score:.3f} ± {width:.3f}" for score, width in result.values()]
        rows += [(series, *scores, f"{state:.3f}")]
    about = f"{config.episodes} episodes of the {policy} policy to fit, {config.episodes} to score, ± 95 %"
    say(table(f"R² of a linear probe, {spec.label}; {about}", ("", *quantities, "mean but reward"), rows))
    folder = config.run[0]
    file = folder / "probe.json"
    chart = folder / "probe.png"
    files.sweep(folder)
    record = {
        "env": spec.label,
        "episodes": config.episodes,
        "policy": policy,
        "seed": config.seed,
        "r2": results,
    }
    files.write_text(file, files.to_json(record, 2) + "\n")
    plots.grouped(chart, results, f"What a linear probe finds, {spec.label}", "R²")
    say(paths(table=file, plot=chart))
