"""Stage 3: M learns to expect, and shows how well its heads and its dreams are calibrated."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from worldmodels import estimate, models
from worldmodels.acting.policies import POLICIES
from worldmodels.core import distributed, seeding
from worldmodels.core.device import device_of
from worldmodels.core.errors import UserError
from worldmodels.core.report import paths, say, summarise, table
from worldmodels.data.chunks import chunk_batches, held_out_chunks
from worldmodels.data.codes import Codes, EpisodeCodes
from worldmodels.data.sequences import in_order, sequence_batches
from worldmodels.data.store import Rollouts, rollout_folder
from worldmodels.dreams.calibration import blind_dreams, one_step
from worldmodels.models.hrssm import HRSSM
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.recurrent import RSSMMemory
from worldmodels.settings.config import MemoryConfig, flag
from worldmodels.settings.presets import preset_of
from worldmodels.show import films, plots
from worldmodels.training.run import Run
from worldmodels.training.train import fit, mean_loss

LARGEST_CODE = 1024  # that an MDN-RNN is asked to model
SIZES = ("hidden_size", "groups", "classes", "units")  # of an RSSM


def train_memory(config: MemoryConfig) -> None:
    """Trains M on sequences of codes and actions."""
    if config.dry_run:
        estimate.memory(config, build)
        return
    rollouts = Rollouts(rollout_folder(config.data), config.spec.label)
    vision, _ = models.load_module(config.run / "vision", "vision")
    config = _settled(config, vision)
    codes = Codes(config.data / "codes", rollouts, vision)
    device = device_of(config.device)
    if distributed.is_main():
        codes.write(vision.to(device), device, config.precision)  # of episodes collected since V was trained
    distributed.barrier()
    built_on = {"vision": codes.vision_fingerprint, "rollouts": rollouts.fingerprint}
    run = Run(config.run / "memory", config, "memory", **built_on)
    torch.manual_seed(seeding.integer(config.seed, "memory", "weights"))
    train = _train_mdnrnn if config.memory == "mdnrnn" else _train_rssm
    memory = train(config, rollouts, codes, vision, run, device)
    if not distributed.is_main():
        return
    extra = {"vision_fingerprint": codes.vision_fingerprint, "starts": codes.starts()}
    models.save_module(memory, run.folder, "memory", env=config.spec.label, **extra)
    _report(config, run, rollouts, codes.held_out(), device)


def _settled(config: MemoryConfig, vision: Any) -> MemoryConfig:
    """The settings as they will be: an RSSM on codes of an HRSSM goes on from V's own, and so has its sizes.

    Raises:
        UserError: if others were asked for.
    """
    if config.memory != "rssm" or not isinstance(vision, HRSSM):
        return config
    usual = preset_of(MemoryConfig, config.env, config.preset, config.memory)
    for name in SIZES:
        asked, own = getattr(config, name), vision.config[name]
        if asked not in (own, usual.get(name, getattr(MemoryConfig, name))):
            raise UserError(f"{flag(name)} {asked}: an rssm goes on from V's own, which has {own}; leave it out")
    return dataclasses.replace(config, **{name: vision.config[name] for name in SIZES})


def build(
    config: MemoryConfig, vision: Any, action_size: int, reward_range: Sequence[float] = (0, 1)
) -> MDNRNN | RSSMMemory:
    """The M that `config` asks for on the codes of `vision`, untrained.

    Raises:
        UserError: if those are too many numbers for it.
    """
    if config.memory == "mdnrnn":
        if vision.code_size > LARGEST_CODE:
            raise UserError(
                f"{config.run}/vision has codes of {vision.code_size} numbers, too many for --memory mdnrnn; train V "
                "with a --code-size, or give --memory rssm"
            )
        return MDNRNN(
            vision.code_size, action_size, config.hidden_size, config.mixtures, config.restart_input, config.reward,
            config.termination, config.termination_weight,
        )  # fmt: skip
    goes_on = isinstance(vision, HRSSM)
    sizes: dict[str, Any] = (
        {name: vision.config[name] for name in (*SIZES, "layers", "losses")}
        if goes_on
        else {name: getattr(config, name) for name in SIZES}
    )
    if goes_on and vision.config["losses"] == "mended":  # whose head spans the rewards that V was trained on
        reward_range = vision.config["reward_range"]
    return RSSMMemory(
        vision.embed_size, vision.code_size, action_size, explains=not goes_on, reward=config.reward,
        termination=config.termination, termination_weight=config.termination_weight, reward_range=reward_range,
        **sizes,
    )  # fmt: skip


def _train_mdnrnn(
    config: MemoryConfig, rollouts: Rollouts, codes: Codes, vision: models.Vision, run: Run, device: torch.device
) -> MDNRNN:
    memory: Any = build(config, vision, rollouts.action_size)
    mean, std = rollouts.reward_moments()
    memory.reward_mean.fill_(mean)
    memory.reward_std.fill_(max(std, 1e-3))  # a constant reward has no scale
    examples = codes.held_out()

    def batches(skip: int) -> Iterator[dict[str, Any]]:
        rows, length = config.batch_size * distributed.world_size(), config.sequence_length
        return sequence_batches(codes, rows, length, config.shuffle_buffer, _order(config), skip, device)

    def held_out() -> dict[str, float]:
        return mean_loss(memory, in_order(examples, len(examples), config.sequence_length), config, device)

    fit(memory, batches, held_out, config, run, device)
    return memory


def _train_rssm(
    config: MemoryConfig, rollouts: Rollouts, codes: Codes, vision: Any, run: Run, device: torch.device
) -> RSSMMemory:
    memory: Any = build(config, vision, rollouts.action_size, rollouts.rewards((0, 100)))
    if isinstance(vision, HRSSM):
        memory.start_from(vision)
    rows, length = config.batch_size * distributed.world_size(), config.sequence_length
    examples = held_out_chunks(rollouts, "embed", codes.read, max(1, 4096 // length), length)

    def batches(skip: int) -> Iterator[dict[str, Any]]:
        buffer, order = config.shuffle_buffer, _order(config)
        return chunk_batches(rollouts, "embed", codes.read, rows, length, buffer, order, skip, device)

    def held_out() -> dict[str, float]:
        return mean_loss(memory, iter(examples), config, device)

    fit(memory, batches, held_out, config, run, device)
    return memory


def _report(
    config: MemoryConfig, run: Run, rollouts: Rollouts, examples: list[EpisodeCodes], device: torch.device
) -> None:
    model = models.load(config.run, device, precision=config.precision)
    history = run.history()
    rows = [(f"held-out {name[9:]}", f"{value:.4f}") for name, value in history[-1].items() if "held_out_" in name]
    predicted, happened, reward, paid = one_step(model, examples, config.seed)
    if config.termination:
        title = f"termination, {len(predicted)} held-out steps"
        plots.calibration(run.folder / "calibration.png", predicted, happened, title)
        rows += [("ends predicted / happened", f"{predicted.sum():.1f} / {happened.sum():.0f}")]
    if config.reward == "head":
        explained = 1 - np.mean((reward - paid) ** 2) / max(np.var(paid), 1e-9)
        rows += [("reward per step predicted / paid", f"{reward.mean():.3f} / {paid.mean():.3f}")]
        rows += [("reward variance explained", f"{explained:.3f}")]
    if config.termination:
        blind = [shard for shard in rollouts.shards if shard.attributes["policy"] in POLICIES]
        if blind:
            policy, limit = blind[0].attributes["policy"], blind[0].attributes["max_steps"]
            real = np.concatenate([s.lengths for s in blind if s.attributes["policy"] == policy])
            rows += [(f"steps, {policy} policy, real", str(summarise(real)))]
            for how, sample_end in (("the model decides", False), ("--sample-end", True)):
                _, lengths = blind_dreams(model, policy, 256, limit, config.seed, sample_end=sample_end)
                rows += [(f"steps, dreamt at tau 1, {how}", str(summarise(lengths)))]
    film, curve = run.folder / "dream_beside_reality.mp4", run.folder / "curves.png"
    shown = [name for name in ("nll", "kl", "termination", "reward") if name in history[-1]]
    plots.curves(curve, history, shown, f"M on {config.spec.label}")
    say(table(f"M of {config.spec.label} after {config.steps} steps", ("", "value"), rows))
    films.attempt(lambda: films.open_loop(film, model, next(rollouts.held_out())))
    say(paths(model=run.folder / models.FILE, film=film, plots=run.folder))


def _order(config: MemoryConfig) -> Any:
    return lambda epoch: seeding.rng(config.seed, "memory", "order", epoch)
