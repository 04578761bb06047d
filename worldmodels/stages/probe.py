"""What does a representation know?  worldmodels probe --run RUN [RUN ...]

Ridge regression from frozen features (HRSSM section 7) to the true physical state and to the reward. It is fitted on
fresh episodes of a blind policy before training backgrounds, and scored on others before test backgrounds. Two models
are compared this way without evolving a controller for each.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from worldmodels import models
from worldmodels.acting.agents import BlindAgent
from worldmodels.acting.policies import POLICIES, paper_policy
from worldmodels.acting.rollout import rollout
from worldmodels.acting.tape import Outcome
from worldmodels.core import files
from worldmodels.core.device import device_of
from worldmodels.core.errors import UserError, nearest
from worldmodels.core.report import paths, say, table
from worldmodels.core.seeding import Noise, integer, rng
from worldmodels.envs.distract import check_test_clips
from worldmodels.envs.pool import pooled
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


@dataclasses.dataclass(frozen=True)
class Seen:
    """One episode as it was seen, and as it truly was."""

    obs: np.ndarray  # uint8 (T+1, 64, 64, 3)
    action: np.ndarray  # float32 (T, A)
    truth: dict[str, np.ndarray]  # name -> float32 (T+1, n); "reward" on arrival


def probe(config: ProbeConfig) -> dict[str, dict[str, tuple[float, float]]]:
    """Plays, fits and scores; prints the table and draws it.

    Returns:
        column -> quantity -> (R², half width of its 95 % confidence interval over test episodes).
    """
    torch.set_num_threads(max(1, config.workers))
    device = device_of(config.device)
    specs = {run: _spec(run, config) for run in config.run}
    spec = specs[config.run[0]]
    for run, other in specs.items():
        if dataclasses.replace(other, videos=spec.videos) != spec:
            raise UserError(
                f"--run {run} was trained in {other.label}, {config.run[0]} in {spec.label}; not comparable"
            )
    policy = _policy(config, spec.name)
    loaded = {run: models.load(run, device, spec.label, "fp32") for run in config.run}
    parts = {run: config.inputs or model.default_inputs for run, model in loaded.items()}
    for run, inputs in parts.items():  # before anything is played
        if unknown := [part for part in inputs if part not in loaded[run].feat_sizes]:
            raise UserError(f"--inputs {unknown[0]} is not a feature of {run}: {', '.join(loaded[run].feat_sizes)}")
    with Workers(config.workers) as workers, tqdm(total=2 * config.episodes, unit="episode", desc="play") as bar:
        fitted = _play_all(workers, spec, policy, config, "fit", bar)
        scored = _play_all(workers, spec.tested(), policy, config, "score", bar)
    results: dict[str, dict[str, tuple[float, float]]] = {}
    named = {run: run.name for run in config.run}
    named = named if len(set(named.values())) == len(named) else {run: str(run) for run in config.run}
    for run, model in loaded.items():
        inputs = parts[run]
        ours = {"code": ("code",), " ".join(inputs): inputs}
        known, tested = (features(model, seen, tuple(ours.values()), config.seed) for seen in (fitted, scored))
        for column, fit_on, score_on in zip(ours, known, tested, strict=True):
            results[f"{named[run]}: {column}"] = r_squared(fit_on, score_on, fitted, scored, config.seed)
    _report(config, spec, policy, results)
    return results


@torch.no_grad()
def features(
    model: WorldModel, episodes: list[Seen], kinds: tuple[tuple[str, ...], ...], seed: int
) -> list[list[np.ndarray]]:
    """Features along real episodes with eyes open.

    Args:
        model: what sees and remembers.
        episodes: to be seen.
        kinds: parts of `model.feat_sizes` each; ("code",) is what V alone makes of a frame, without its variance.
        seed: of the model's noise.

    Returns:
        For each kind, per episode, float32 (T+1, F).
    """
    device = model.starts.device
    embeds = [model.encode(torch.from_numpy(e.obs).to(device)) for e in tqdm(episodes, desc="see", leave=False)]
    noise = Noise([integer(seed, "probe noise", i) for i in range(len(episodes))], model.noise_size, device)
    found: dict[tuple[str, ...], list[np.ndarray]] = {kind: [] for kind in kinds if kind != ("code",)}
    for state in perceive(model, embeds, [torch.from_numpy(e.action) for e in episodes], noise):
        for kind, rows in found.items():
            rows.append(model.features(state, kind).float().cpu().numpy())
    lengths = [len(e.obs) for e in episodes]
    series = {kind: np.stack(rows, 1) for kind, rows in found.items()}
    codes = [embed[:, : model.code_size].float().cpu().numpy() for embed in embeds]
    return [codes if kind not in series else [row[:n] for row, n in zip(series[kind], lengths, strict=True)]
            for kind in kinds]  # fmt: skip


def r_squared(
    fit_on: list[np.ndarray], score_on: list[np.ndarray], fitted: list[Seen], scored: list[Seen], seed: int
) -> dict[str, tuple[float, float]]:
    """R² of every quantity on the scored episodes, with the half width of its bootstrap confidence interval.

    A quantity of several numbers counts in mean over those that vary.
    """
    weights = _ridge(fit_on, [_targets(e) for e in fitted])
    errors, spreads = [], []
    truth = [_targets(e) for e in scored]
    center = np.concatenate(truth).mean(0)
    for feat, true in zip(score_on, truth, strict=True):
        errors.append(((weights(feat) - true) ** 2).sum(0))
        spreads.append(((true - center) ** 2).sum(0))
    error, spread, generator = np.array(errors), np.array(spreads), rng(seed, "bootstrap")
    varies = spread.sum(0) > 1e-6 * len(np.concatenate(truth))
    draws = [generator.integers(len(error), size=len(error)) for _ in range(RESAMPLES)]
    result, start = {}, 0
    for name, values in scored[0].truth.items():
        columns = np.arange(start, start := start + values.shape[1])
        columns = columns[varies[columns]]
        if len(columns):
            score = [float(np.mean(1 - error[i][:, columns].sum(0) / spread[i][:, columns].sum(0)))
                     for i in [np.arange(len(error)), *draws] if (spread[i][:, columns].sum(0) > 0).all()]  # fmt: skip
            result[name] = (score[0], float(1.96 * np.std(score[1:])))
    return result


def _ridge(feats: list[np.ndarray], targets: list[np.ndarray]) -> "functools.partial[np.ndarray]":
    """A linear map fitted to standardised features; its strength is the one that serves held-back episodes best."""
    back = max(1, len(feats) // 4)
    x, y = np.concatenate(feats[back:]).astype(np.float64), np.concatenate(targets[back:]).astype(np.float64)
    mean, std, level, scale = x.mean(0), x.std(0) + 1e-6, y.mean(0), y.std(0) + 1e-9
    scaled = (x - mean) / std
    values, vectors = np.linalg.eigh(scaled.T @ scaled)
    turned = vectors.T @ (scaled.T @ ((y - level) / scale))
    held_x = (np.concatenate(feats[:back]) - mean) / std @ vectors
    held_y = (np.concatenate(targets[:back]) - level) / scale
    maps = [turned / (values[:, None].clip(0) + strength) for strength in STRENGTHS]
    errors = np.array([((held_x @ m - held_y) ** 2).mean(0) for m in maps])  # (strengths, targets)
    best = np.stack([maps[choice][:, i] for i, choice in enumerate(errors.argmin(0))], 1)
    return functools.partial(_apply, mean, std, vectors @ best * scale, level)


def _apply(mean: np.ndarray, std: np.ndarray, weights: np.ndarray, level: np.ndarray, feat: np.ndarray) -> np.ndarray:
    return (feat - mean) / std @ weights + level


def _targets(seen: Seen) -> np.ndarray:
    return np.concatenate(list(seen.truth.values()), 1)


def _play_all(workers: Workers, spec: EnvSpec, policy: str, config: ProbeConfig, purpose: str, bar: tqdm) -> list[Seen]:
    limit = preset_of(CollectConfig, spec.name, "laptop")["max_steps"]
    seeds = [integer(config.seed, "probe", purpose, i) for i in range(config.episodes)]
    tasks = [BlindTask(spec, policy, limit, seeds[i : i + GROUP]) for i in range(0, len(seeds), GROUP)]
    return [seen for group in workers.map(play, tasks, lambda group: bar.update(len(group))) for seen in group]


def play(task: BlindTask) -> list[Seen]:
    """A worker's task: a blind policy's episodes, one per seed."""
    pool = pooled(task.env, 1, truth=True)
    agent = BlindAgent(task.policy, pool[0].action_space.shape[0])  # type: ignore[index]
    return [_seen(outcome) for outcome in rollout(pool, agent, task.seeds, task.max_steps, record=True, truth=True)]


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


def _report(
    config: ProbeConfig, spec: EnvSpec, policy: str, results: dict[str, dict[str, tuple[float, float]]]
) -> None:
    quantities = list(next(iter(results.values())))
    rows = []
    for series, result in results.items():
        state = np.mean([score for name, (score, _) in result.items() if name != "reward"])
        rows += [(series, *(f"{score:.3f} ± {width:.3f}" for score, width in result.values()), f"{state:.3f}")]
    about = f"{config.episodes} episodes of the {policy} policy to fit, {config.episodes} to score, ± 95 %"
    say(table(f"R² of a linear probe, {spec.label}; {about}", ("", *quantities, "mean but reward"), rows))
    file, chart = config.run[0] / "probe.json", config.run[0] / "probe.png"
    record = {"env": spec.label, "episodes": config.episodes, "policy": policy, "seed": config.seed, "r2": results}
    files.write_text(file, files.to_json(record, 2) + "\n")
    plots.grouped(chart, results, f"What a linear probe finds, {spec.label}", "R²")
    say(paths(table=file, plot=chart))
