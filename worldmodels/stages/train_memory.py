"""Stage 3: M learns to expect, and shows how well its heads and its dreams are calibrated."""

import numpy as np
import torch

from worldmodels import estimate, models
from worldmodels.acting.policies import POLICIES
from worldmodels.core import distributed, files, seeding
from worldmodels.core.device import prepare_device
from worldmodels.core.report import paths, say, summarise, table
from worldmodels.data.embeddings import EmbeddedEpisode, Embeddings
from worldmodels.data.source import Source
from worldmodels.data.store import Rollouts, rollout_folder
from worldmodels.dreams.calibration import blind_dreams, one_step
from worldmodels.models.base import WorldModel
from worldmodels.settings.config import MemoryConfig
from worldmodels.show import films, plots
from worldmodels.training.run import Run
from worldmodels.training.train import learn

CHECKED = 4096  # held-out steps, about; a model whose state goes on is checked on whole episodes


def train_memory(config: MemoryConfig) -> None:
    """Trains M on sequences of codes and actions."""
    if config.dry_run:
        estimate.memory(config, CHECKED)
        return
    rollouts = Rollouts(rollout_folder(config.data), config.spec.label)
    vision, _ = models.load_module(config.run / "vision", "vision")
    config = models.settled(config, vision)
    embeddings = Embeddings(config.data / "codes", rollouts, vision)
    device = prepare_device(config.device)
    if distributed.is_main():
        files.sweep(embeddings.folder)
        embeddings.write(vision.to(device), device, config.precision)  # of episodes collected since V was trained
    distributed.barrier()
    built_on = {"vision": embeddings.vision_fingerprint, "rollouts": rollouts.fingerprint}
    torch.manual_seed(seeding.integer(config.seed, "memory", "weights"))
    memory = models.class_of(config.memory, "memory").build(config.model, rollouts, vision)
    rows = config.batch_size * distributed.world_size()
    source = Source("memory", config.seed, rollouts, rows, config.shuffle_buffer, CHECKED, embeddings, device)
    run = Run(config.run / "memory", config, "memory", **built_on)  # after all that may be refused
    learn(memory, source, config, run)
    if not distributed.is_main():
        return
    extra = {"vision_fingerprint": embeddings.vision_fingerprint, "starts": embeddings.starts()}
    models.save_module(memory, run.folder, "memory", env=config.spec.label, **extra)
    _report(config, run, rollouts, embeddings.held_out(), device)


def _report(
    config: MemoryConfig,
    run: Run,
    rollouts: Rollouts,
    examples: list[EmbeddedEpisode],
    device: torch.device,
) -> None:
    model = models.load(config.run, device, precision=config.precision)
    final = run.final()
    rows = [(f"held-out {name[9:]}", f"{value:.4f}") for name, value in final.items() if "held_out_" in name]
    rows += _one_step_rows(config, run, model, examples)
    if config.model.termination:
        rows += _lengths_rows(config, model, rollouts)
    film = run.folder / "dream_beside_reality.mp4"
    shown = [name[9:] for name in final if name.startswith("held_out_") and name != "held_out_loss"]
    plots.curves(run.folder / "curves.png", run.history(), shown, f"M on {config.spec.label}")
    say(table(f"M of {config.spec.label} after {config.steps} steps", ("", "value"), rows))
    films.attempt(lambda: films.open_loop(film, model, next(rollouts.held_out())))
    say(paths(model=run.folder / models.FILE, film=film, plots=run.folder))


def _one_step_rows(
    config: MemoryConfig,
    run: Run,
    model: WorldModel,
    examples: list[EmbeddedEpisode],
) -> list[tuple[str, str]]:
    """How well M's heads are calibrated, one step ahead; draws that of the one for the end."""
    rows = []
    predicted, happened, reward, paid = one_step(model, examples, config.seed)
    if config.model.termination:
        title = f"termination, {len(predicted)} held-out steps"
        plots.calibration(run.folder / "calibration.png", predicted, happened, title)
        rows += [("ends predicted / happened", f"{predicted.sum():.1f} / {happened.sum():.0f}")]
    if config.model.reward == "head":
        explained = 1 - np.mean((reward - paid) ** 2) / max(np.var(paid), 1e-9)
        rows += [("reward per step predicted / paid", f"{reward.mean():.3f} / {paid.mean():.3f}")]
        rows += [("reward variance explained", f"{explained:.3f}")]
    return rows


def _lengths_rows(config: MemoryConfig, model: WorldModel, rollouts: Rollouts) -> list[tuple[str, str]]:
    """How long a blind policy's episodes last really, and in dreams; nothing if none was collected."""
    blind = [shard for shard in rollouts.shards if shard.attributes["policy"] in POLICIES]
    if not blind:
        return []
    policy = blind[0].attributes["policy"]
    limit = blind[0].attributes["max_steps"]
    real = np.concatenate([shard.lengths for shard in blind if shard.attributes["policy"] == policy])
    rows = [(f"steps, {policy} policy, real", str(summarise(real)))]
    for how, sample_end in (("the model decides", False), ("--sample-end", True)):
        _, lengths = blind_dreams(model, policy, 256, limit, config.seed, sample_end=sample_end)
        rows += [(f"steps, dreamt at tau 1, {how}", str(summarise(lengths)))]
    return rows
