"""Stage 3: M learns to expect, and shows how well its heads and its dreams are calibrated."""

import copy
from typing import Any

import numpy as np
import torch

from worldmodels import estimate, models
from worldmodels.acting.policies import POLICIES, baselines
from worldmodels.core import distributed, files, seeding
from worldmodels.core.device import prepare_device
from worldmodels.core.report import paths, say, summarise
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.data.shard import Shard
from worldmodels.data.source import Source
from worldmodels.dreams import trust
from worldmodels.dreams.calibration import ages, blind_dreams, deaths, one_step
from worldmodels.dreams.moments import end_shift, moments, some_episodes
from worldmodels.envs import check_playable
from worldmodels.evolution.scoring import score_baselines
from worldmodels.models.base import WorldModel
from worldmodels.settings.environments import record_of
from worldmodels.settings.stages import MemoryConfig
from worldmodels.show import films, pages, plots
from worldmodels.show.record import Number, Record
from worldmodels.training.by_heart import learnt_by_heart
from worldmodels.training.run import Run
from worldmodels.training.train import learn, start_from
from worldmodels.workers.local import Workers

CHECKED = 4096  # held-out steps, about; a model whose state goes on is checked on whole episodes
DREAMS = 400  # in which deaths are counted


def train_memory(config: MemoryConfig) -> None:
    """Trains M on sequences of codes and actions."""
    if config.dry_run:
        estimate.memory(config, CHECKED)
        return
    rollouts = Rollouts(rollout_folder(config.data), config.spec.label)
    vision, _ = models.load_module(config.run / "vision", "vision")
    config = models.settled(config, vision)
    torch.manual_seed(seeding.integer(config.seed, "memory", "weights"))
    memory = models.class_of(config.memory, "memory").build(config.model, rollouts, vision)
    start_from(memory, config, "memory")
    embeddings = Embeddings(config.data / "codes", rollouts, vision)
    device = prepare_device(config.device)
    if distributed.is_main():
        files.sweep(embeddings.folder)
        embeddings.write(vision.to(device), device, config.precision)  # of episodes collected since V was trained
    distributed.barrier()
    built_on = {"vision": embeddings.vision_fingerprint, "rollouts": rollouts.fingerprint}
    rows = config.batch_size * distributed.world_size()
    source = Source("memory", config.seed, rollouts, rows, config.shuffle_buffer, CHECKED, embeddings, device)
    if config.real_episodes and config.model.termination and _die(rollouts) and distributed.is_main():
        check_playable(config.spec, "--real-episodes 0 trains without it")
    run = Run(config.run / "memory", config, "memory", **built_on)  # after all that may be refused
    learn(memory, source, config, run)
    if not distributed.is_main():
        return
    _save(config, run, memory, vision, embeddings, device)
    _report(config, run, rollouts, embeddings.held_out(), device)


def _save(
    config: MemoryConfig,
    run: Run,
    memory: models.Memory[Any],
    vision: models.Vision[Any],
    embeddings: Embeddings,
    device: torch.device,
) -> None:
    """M, and what dreams begin with: first pictures, moments of episodes, and how ends are to be calibrated there."""
    starts = embeddings.starts()
    paired = models.pair(copy.deepcopy(vision), copy.deepcopy(memory), starts, device, config.precision)
    # Where C was when it last played: where it fails, it is to be trained.
    episodes = some_episodes(embeddings, embeddings.rollouts.latest)
    found = moments(paired, episodes, config.seed)
    shards = embeddings.rollouts.shards
    blind = [shard for shard in shards if _is_blind(shard)]
    shift = 0.0
    if config.model.termination and blind:  # whose actions make sense in dreams, too
        judged = episodes if len(blind) == len(shards) else some_episodes(embeddings, blind)
        at = found if judged is episodes else moments(paired, judged, config.seed)
        shift = end_shift(paired, at, judged, record_of(config.env).tau, config.seed)
    models.save_module(
        memory,
        run.folder,
        "memory",
        env=config.spec.label,
        vision_fingerprint=embeddings.vision_fingerprint,
        starts=starts,
        moments={name: value.half().cpu() for name, value in found.states.items()},
        end_shift=shift,
    )


def _report(
    config: MemoryConfig,
    run: Run,
    rollouts: Rollouts,
    examples: list[EmbeddedEpisode],
    device: torch.device,
) -> None:
    model = models.load(config.run, device, precision=config.precision)
    final = run.final()
    history = run.history()
    record = Record(run.folder / "memory.json", "memory", config)
    held_out = {name: value for name, value in final.items() if "held_out_" in name}
    rows: list[tuple[str, object]] = [(f"held-out {name[9:]}", Number(held_out[name], ".4f")) for name in held_out]
    rows += _one_step_rows(config, run, model, examples)
    film = run.folder / "dream_beside_reality.mp4"
    shown = [name[9:] for name in final if name.startswith("held_out_") and name != "held_out_loss"]
    plots.curves(run.folder / "curves.png", history, shown, f"M on {config.spec.label}")
    record.warn(learnt_by_heart("M", history))
    record.table(f"M of {config.spec.label} after {config.steps} steps", ("", "value"), rows)
    if config.model.termination:
        _ages(config, run, model, rollouts, record)
        _lives(config, run, model, rollouts, record)
    record.plot(run.folder / "curves.png", "Losses over gradient steps")
    record.plot(run.folder / "calibration.png", "Calibration: how often what was given a probability happened")
    record.show(film, "A dream beside reality: the same actions, eyes shut after 30 steps")
    films.attempt(lambda: films.open_loop(film, model, next(rollouts.held_out())))
    say(paths(model=run.folder / models.FILE, film=film, plots=run.folder))
    pages.close(record, config.run, config.data)


def _one_step_rows(
    config: MemoryConfig,
    run: Run,
    model: WorldModel,
    examples: list[EmbeddedEpisode],
) -> list[tuple[str, object]]:
    """How well M's heads are calibrated, one step ahead; draws that of the one for the end."""
    rows: list[tuple[str, object]] = []
    predicted, happened, reward, paid = one_step(model, examples, config.seed)
    if config.model.termination:
        title = f"termination, {len(predicted)} held-out steps"
        plots.calibration(run.folder / "calibration.png", predicted, happened, title)
        rows += [("ends predicted / happened", f"{predicted.sum():.1f} / {happened.sum():.0f}")]
        rows += [("ends in dreams, calibrated by", f"{model.end_shift:+.2f} nats")]
    if config.model.reward == "head":
        explained = 1 - np.mean((reward - paid) ** 2) / max(np.var(paid), 1e-9)
        rows += [("reward per step predicted / paid", f"{reward.mean():.3f} / {paid.mean():.3f}")]
        rows += [("reward variance explained", Number(explained, ".3f"))]
    return rows


def _is_blind(shard: Shard) -> bool:
    """Whether what was done in it does not depend on what was seen."""
    return shard.attributes["policy"] in POLICIES


def _ages(config: MemoryConfig, run: Run, model: WorldModel, rollouts: Rollouts, record: Record) -> None:
    """Deaths of the policy that collected, by step of the episode, dreamt beside real: dreams that drift show here.

    Nothing is said where no blind policy's episode ever ended by itself.
    """
    blind = [shard for shard in rollouts.shards if _is_blind(shard)]
    if not any(shard.terminated.any() for shard in blind):
        return
    policy = blind[0].attributes["policy"]
    limit = blind[0].attributes["max_steps"]
    alike = [shard for shard in blind if shard.attributes["policy"] == policy]
    lengths = np.concatenate([shard.lengths for shard in alike])
    real = deaths(lengths, np.concatenate([shard.terminated for shard in alike]))
    tau = record_of(config.env).tau
    _, dreamt = blind_dreams(model, policy, DREAMS, limit, config.seed, tau, sample_end=True)
    there = deaths(dreamt, dreamt < limit)
    named = {f"real, {len(lengths)} episodes": real, f"dreamt at τ {tau:g}, {DREAMS} episodes": there}
    title = f"Deaths per 1,000 steps of the {policy} policy, {config.spec.label}"
    columns = [_written(one.rates) for one in named.values()]
    columns += [_written(there.rates / np.where(real.deaths, real.rates, np.nan))]
    rows = [row for row in zip(ages(), *columns, strict=True) if any(row[1:])]  # some ages nobody reached
    record.table(title, ("steps", *named, "dreamt / real"), rows)
    drawn = {label: (one.rates, one.errors) for label, one in named.items()}
    plots.by_age(run.folder / "deaths.png", ages(), drawn, title)
    record.plot(run.folder / "deaths.png", "Deaths by step of the episode: dreams that drift part from reality")


def _written(numbers: np.ndarray) -> list[str]:
    return ["" if np.isnan(number) else f"{number:.2f}" for number in numbers]


def _die(rollouts: Rollouts) -> bool:
    """Whether any episode ended by itself."""
    return any(shard.terminated.any() for shard in rollouts.shards)


def _lives(config: MemoryConfig, run: Run, model: WorldModel, rollouts: Rollouts, record: Record) -> None:
    """How long the trivial policies live really, and in dreams; kept for all who use the dreams later."""
    episodes = config.real_episodes
    if not episodes or not _die(rollouts):
        return
    limit = rollouts.shards[0].attributes["max_steps"]
    tau = record_of(config.env).tau
    seeds = [seeding.integer(config.seed, "trust", i) for i in range(episodes)]
    with Workers(config.workers) as workers:
        real = score_baselines(config.spec, limit, seeds, workers)
    lives = {}
    for label, policy in baselines(config.env).items():
        sampled, decided = (
            summarise(blind_dreams(model, policy, episodes, limit, config.seed, tau, sample_end)[1])
            for sample_end in (True, False)
        )
        lives[label] = trust.Lives(real[label].lengths, sampled, decided)
    trust.write(run.folder, tau, lives)
    title = f"Steps that trivial policies live, mean ± std of {episodes} episodes; dreams at τ {tau:g}"
    header = ("", "real", "dreamt, ends sampled", "/ real", "dreamt, M decides", "/ real")
    rows = [
        (label, one.real, one.sampled, f"{one.ratio(True):.2f}", one.decided, f"{one.ratio(False):.2f}")
        for label, one in lives.items()
    ]
    record.table(title, header, rows)
    record.warn(*trust.doubts(run.folder, sample_end=True))
