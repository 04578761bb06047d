"""Stage 2: V learns to see, shows what it makes of frames it has not met, and writes the codes of all episodes."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldmodels import estimate, models
from worldmodels.core import distributed, seeding
from worldmodels.core.device import autocast, device_of
from worldmodels.core.report import paths, say, table
from worldmodels.data.chunks import chunk_batches, held_out_chunks, read_obs
from worldmodels.data.codes import Codes
from worldmodels.data.frames import frame_batches
from worldmodels.data.store import Rollouts, rollout_folder
from worldmodels.models.hrssm import HRSSM
from worldmodels.models.vae import VAE
from worldmodels.settings.config import VisionConfig
from worldmodels.show import plots
from worldmodels.training.run import Run
from worldmodels.training.train import fit, mean_loss

EXAMPLES = 512  # held-out frames; HRSSM's sequences hold about as many


def train_vision(config: VisionConfig) -> None:
    """Trains V on frames or on sequences of them."""
    if config.dry_run:
        estimate.vision(config, build)
        return
    rollouts = Rollouts(rollout_folder(config.data), config.spec.label)
    if rollouts.dark:
        say(f"note: {rollouts.dark}")
    device = device_of(config.device)
    run = Run(config.run / "vision", config, "vision", rollouts=rollouts.fingerprint)
    torch.manual_seed(seeding.integer(config.seed, "vision", "weights"))
    vision = (_train_vae if config.vision == "vae" else _train_hrssm)(config, rollouts, run, device)
    if not distributed.is_main():
        return
    clips = sorted({clip for shard in rollouts.shards for clip in shard.attributes.get("clips", ())})
    videos = Path(rollouts.shards[0].attributes.get("videos", ""))  # where the clips lay, if this stage was not told
    spec = config.spec if config.spec.videos else config.spec.with_videos(videos)
    models.save_module(vision, run.folder, "vision", env=spec.label, spec=spec.plain(), clips=clips)
    codes = Codes(config.data / "codes", rollouts, vision)
    codes.write(vision, device, config.precision)
    _report(config, run, rollouts, codes, vision, device)


def build(
    config: VisionConfig, action_size: int, reward_range: Sequence[float] = (0, 1), usual: Sequence[float] = (0, 1)
) -> VAE | HRSSM:
    """The V that `config` asks for, untrained; HRSSM wants to know the data's rewards: all of them, and most."""
    if config.vision == "vae":
        return VAE(config.code_size, config.kl_floor)
    return HRSSM(
        action_size, config.depth, config.code_size, config.hidden_size, config.groups, config.classes, config.units,
        mask_ratio=config.mask_ratio if config.mask else 0.0, bisimulation=config.bisimulation, losses=config.losses,
        reward_range=reward_range, usual_rewards=usual,
    )  # fmt: skip


def _train_vae(config: VisionConfig, rollouts: Rollouts, run: Run, device: torch.device) -> VAE:
    vision: Any = build(config, rollouts.action_size)
    examples = held_out_frames(rollouts, EXAMPLES, config.seed)

    def batches(skip: int) -> Iterator[dict[str, Any]]:
        size, buffer = config.batch_size * distributed.world_size(), config.shuffle_buffer
        return frame_batches(rollouts, size, buffer, _order(config), skip, device)

    def held_out() -> dict[str, float]:
        return mean_loss(vision, iter([{"obs": examples}]), config, device)

    fit(vision, batches, held_out, config, run, device)
    return vision


def _train_hrssm(config: VisionConfig, rollouts: Rollouts, run: Run, device: torch.device) -> HRSSM:
    vision: Any = build(config, rollouts.action_size, rollouts.rewards((0, 100)), rollouts.rewards((5, 95)))
    length = config.sequence_length
    examples = held_out_chunks(rollouts, "obs", read_obs, max(1, EXAMPLES // length), length)

    def batches(skip: int) -> Iterator[dict[str, Any]]:
        size, buffer = config.batch_size * distributed.world_size(), config.shuffle_buffer
        return chunk_batches(rollouts, "obs", read_obs, size, length, buffer, _order(config), skip, device)

    def held_out() -> dict[str, float]:
        return mean_loss(vision, iter(examples), config, device)

    fit(vision, batches, held_out, config, run, device, vision.follow)
    return vision


def held_out_frames(rollouts: Rollouts, count: int, seed: int) -> torch.Tensor:
    """uint8 (N, 64, 64, 3), N <= count, from all held-out episodes alike."""
    per_shard = math.ceil(count / len(rollouts.shards))
    frames = []
    for i, shard in enumerate(rollouts.shards[:count]):
        obs = shard.read("obs", int(shard.obs_starts[-2]))
        chosen = seeding.rng(seed, "held out", i).choice(len(obs), min(per_shard, len(obs)), replace=False)
        frames.append(obs[np.sort(chosen)])
    return torch.from_numpy(np.concatenate(frames)[:count])


def _report(
    config: VisionConfig, run: Run, rollouts: Rollouts, codes: Codes, vision: models.Vision, device: torch.device
) -> None:
    examples = held_out_frames(rollouts, EXAMPLES, config.seed)
    with torch.no_grad(), autocast(device, config.precision):
        embed = vision.encode(examples.to(device))
        shown = vision.decode(embed[:12, : vision.code_size]).cpu().numpy()
    grid, curve = run.folder / "reconstructions.png", run.folder / "curves.png"
    plots.picture_grid(grid, {"seen": examples[:12].numpy(), "reconstructed": shown})
    final = run.history()[-1]  # whose last line is of the last step, with its held-out losses
    losses = [name[9:] for name in final if name.startswith("held_out_")]
    plots.curves(curve, run.history(), [name for name in losses if name != "loss"], f"V on {config.spec.label}")
    rows = [(f"held-out {name}", f"{final[f'held_out_{name}']:.4g}") for name in losses]
    if vision.embed_size == 2 * vision.code_size:
        used = int(((embed[:, vision.code_size :] / 2).exp().mean(0) < 0.95).sum())
        rows += [("code dimensions in use", f"{used} of {vision.code_size}")]
    say(table(f"V of {config.spec.label} after {config.steps} steps", ("", "value"), rows))
    say(paths(model=run.folder / models.FILE, codes=codes.folder, pictures=grid, curves=curve))


def _order(config: VisionConfig) -> Any:
    return lambda epoch: seeding.rng(config.seed, "vision", "order", epoch)
