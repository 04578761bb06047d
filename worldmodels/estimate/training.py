"""What stages 2 and 3 would take: their own loop trains on made-up data of the right size, for seconds."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from worldmodels import models
from worldmodels.core import distributed, schema
from worldmodels.core.device import autocast, prepare_device
from worldmodels.data.embeddings import ENCODE_BATCH
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.envs.reused import numbers_in_an_action, reused
from worldmodels.estimate.costs import FRAME, Cost, Size, own_memory, seconds_per, show
from worldmodels.models import Trainable, Vision
from worldmodels.settings.shared import usual
from worldmodels.settings.stages import CollectConfig, MemoryConfig, TrainConfig, VisionConfig
from worldmodels.training.gradients import helpers, shares
from worldmodels.training.train import fit, mean_loss


class Data(NamedTuple):
    """What there is to learn from, or would be."""

    frames: int  # for training
    all_frames: int
    action_size: int
    read: float  # seconds to read a frame; 0 if there is none
    source: str


class MadeUp(NamedTuple):
    """What a model is told of data that is not there (models/base.py: Experience)."""

    action_size: int

    def rewards(self, percentiles: Sequence[float]) -> list[float]:
        """From 0 to 1; they change no speed."""
        return [percentile / 100 for percentile in percentiles]

    def reward_moments(self) -> tuple[float, float]:
        """Neither do these."""
        return 0.0, 1.0


class Nowhere:
    """A run whose checkpoints and metrics go nowhere."""

    kind = "estimate"
    folder = Path()
    checkpoint_path = Path()

    def rewind(self, holds: schema.Check) -> None:
        """Nothing came before."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Nobody looks."""

    def save(self, tree: dict[str, Any]) -> None:
        """Nothing comes after."""

    def close(self) -> None:
        """Nothing was opened."""


def vision(config: VisionConfig, checked: int, collect: CollectConfig | None = None) -> float:
    """Measures gradient steps, encoding and reading; a check takes `checked` frames.

    What is not on disk yet is as `collect` would have it, by default as this --preset has it. Returns the seconds.
    """
    data = data_of(config, collect)
    device = prepare_device(config.device)
    module = models.class_of(config.vision, "vision").build(config.model, MadeUp(data.action_size))
    costs = _train(config, module, data.action_size, module.embed_size, checked, device)
    obs = torch.zeros(ENCODE_BATCH, 64, 64, 3, dtype=torch.uint8)

    def encode(times: int) -> float:
        for _ in range(times):
            with torch.no_grad(), autocast(device, config.precision):
                module.encode(obs.to(device)).cpu()
        return times * ENCODE_BATCH

    costs += [Cost("frame encoded", seconds_per(encode), data.all_frames, data.source)]
    if data.read:
        trained = config.steps * config.batch_size * module.wants.steps * distributed.world_size()
        costs += [Cost("frame read", data.read, trained, "a shard read here")]
    held = min(config.shuffle_buffer, data.frames)
    encoded = f"{data.all_frames:,} frames, {data.source}"
    sizes = [
        Size("disk: codes", data.all_frames * module.embed_size * 2, encoded),
        _checkpoint(module),
        Size("memory: --shuffle-buffer", held * FRAME, f"{held:,} frames"),
        *_memory(device),
    ]
    return show(f"{config.steps} steps of V ({config.vision}) of {config.spec.label}, a dry run", costs, sizes)


def memory(
    config: MemoryConfig,
    checked: int,
    collect: CollectConfig | None = None,
    vision: VisionConfig | None = None,
) -> float:
    """Measures gradient steps on a V's codes; a check takes `checked` steps.

    What is not on disk yet is as `collect` and `vision` would have it, by default as this --preset has it. Returns the
    seconds.
    """
    data = data_of(config, collect)
    device = prepare_device(config.device)
    seen, source = _vision(config, data, vision)
    config = models.settled(config, seen)
    module = models.class_of(config.memory, "memory").build(config.model, MadeUp(data.action_size), seen)
    costs = _train(config, module, data.action_size, seen.embed_size, checked, device)
    held = min(config.shuffle_buffer, data.frames)
    sizes = [
        _checkpoint(module),
        Size("memory: --shuffle-buffer", 2 * held * seen.embed_size * 2, f"{held:,} steps, twice; {source}"),
        *_memory(device),
        *_of_workers(config, module, device),
    ]
    return show(f"{config.steps} steps of M ({config.memory}) of {config.spec.label}, a dry run", costs, sizes)


def data_of(config: TrainConfig, collect: CollectConfig | None = None) -> Data:
    """The rollouts on disk, or else those that stage 1 would collect: as it is asked to, or by this --preset."""
    folder = rollout_folder(config.data)
    if not any(folder.glob("*.h5")):
        action_size = numbers_in_an_action(reused(config.spec, 1)[0])
        asked = collect or usual(CollectConfig, config.env, config.preset)
        episodes = asked.episodes
        steps = asked.max_steps
        held_out = episodes // asked.shard_size
        source = f"at most, by stage 1's --preset {config.preset}"
        return Data((episodes - held_out) * (steps + 1), episodes * (steps + 1), action_size, 0.0, source)
    rollouts = Rollouts(folder, config.spec.label)
    shard = rollouts.shards[0]
    frames = int(shard.obs_starts[-1])

    def read(times: int) -> float:
        for _ in range(times):
            shard.read("obs")
        return times * frames

    training = sum(rollouts.training_frames)
    everything = rollouts.num_steps + rollouts.num_episodes
    return Data(training, everything, rollouts.action_size, seconds_per(read), f"in {folder}")


def _vision(config: MemoryConfig, data: Data, asked: VisionConfig | None) -> tuple[Vision[Any], str]:
    """V on disk, or else the one that stage 2 would train: as it is asked to, or by this --preset."""
    folder = config.run / "vision"
    if (folder / models.FILE).exists() and not config.fresh:
        return models.load_module(folder, "vision")[0], f"codes of {folder}"
    asked = asked or usual(VisionConfig, config.env, config.preset)
    made = models.class_of(asked.vision, "vision").build(asked.model, MadeUp(data.action_size))
    return made, f"codes of a {asked.vision} by --preset {config.preset}"


def _train(
    config: TrainConfig,
    module: Trainable[Any],
    action_size: int,
    embed_size: int,
    checked: int,
    device: torch.device,
) -> list[Cost]:
    """Gradient steps and held-out checks, of `checked` frames or steps each."""
    batch = module.wants.made_up(config.batch_size, action_size, embed_size)
    size = config.batch_size * module.wants.steps
    processes = distributed.world_size()  # each takes its part of a batch that is so many times as large
    whole = {name: torch.cat([value] * processes) for name, value in batch.items()}
    steps = dataclasses.replace(config, dry_run=True)

    def step(count: int) -> float:
        some = dataclasses.replace(steps, steps=count)
        run: Any = Nowhere()
        fit(module, lambda _: (dict(whole) for _ in itertools.count()), dict, some, run, device, workers)
        return count

    def check(count: int) -> float:
        mean_loss(module, (dict(batch) for _ in range(count)), config, device)
        return count

    with helpers(module, config, device) as workers:
        each = seconds_per(step)
    each_check = seconds_per(check) * max(1.0, checked / size)
    checks = -(-config.steps // config.save_every)
    return [
        Cost("gradient step", each, config.steps, f"its loop on made-up data, {size:,} frames a step"),
        Cost("held-out check", each_check, checks, f"{checked:,} frames or steps"),
    ]


def _checkpoint(module: torch.nn.Module) -> Size:
    numbers = sum(p.numel() for p in module.parameters())
    return Size("disk: model, checkpoint", numbers * 4 * 4, f"{numbers:,} numbers, thrice with Adam's two")


def _of_workers(config: TrainConfig, module: Trainable[Any], device: torch.device) -> list[Size]:
    """What those take who compute shares of a gradient, if anybody does."""
    with helpers(module, config, device) as workers:
        number = shares(module, config.batch_size, config.workers) if workers else 0
    size = own_memory().bytes
    return [Size(f"memory: {number} workers", number * size, "as much as this process each, at most")] if number else []


def _memory(device: torch.device) -> list[Size]:
    if device.type == "cpu":
        return [own_memory()]
    peak = torch.cuda.max_memory_allocated(device)
    return [own_memory(), Size("memory: GPU", peak, "its peak while measuring")]
