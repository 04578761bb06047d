"""Stage 2: V learns to see, shows what it makes of frames it never met, and writes all episodes' codes."""

from pathlib import Path
from typing import Any

import torch

from worldmodels import estimate, models
from worldmodels.core import distributed, files, seeding
from worldmodels.core.device import autocast, prepare_device
from worldmodels.core.report import paths, say
from worldmodels.data.embeddings import Embeddings
from worldmodels.data.frames import held_out_frames
from worldmodels.data.rollouts import Rollouts, rollout_folder
from worldmodels.data.source import Source
from worldmodels.settings.stages import VisionConfig
from worldmodels.show import pages, plots
from worldmodels.show.record import Number, Record
from worldmodels.training.by_heart import learnt_by_heart
from worldmodels.training.run import Run
from worldmodels.training.train import learn, start_from

EXAMPLES = 512  # held-out frames; sequences of them hold about as many


def train_vision(config: VisionConfig) -> None:
    """Trains V on the batches of frames that it wants."""
    if config.dry_run:
        estimate.vision(config, EXAMPLES)
        return
    rollouts = Rollouts(rollout_folder(config.data), config.spec.label)
    if rollouts.dark:
        say(f"note: {rollouts.dark}")
    device = prepare_device(config.device)
    if distributed.is_main():
        files.check_writable(config.data / "codes")  # now, for codes are written hours later
    torch.manual_seed(seeding.integer(config.seed, "vision", "weights"))
    vision = models.class_of(config.vision, "vision").build(config.model, rollouts)
    start_from(vision, config, "vision")
    rows = config.batch_size * distributed.world_size()
    source = Source("vision", config.seed, rollouts, rows, config.shuffle_buffer, EXAMPLES, device=device)
    run = Run(config.run / "vision", config, "vision", rollouts=rollouts.fingerprint)  # after all that may be refused
    learn(vision, source, config, run)
    if not distributed.is_main():
        return
    clips = sorted({clip for shard in rollouts.shards for clip in shard.attributes.get("clips", ())})
    spec = config.spec
    if not spec.videos:  # this stage was not told where the clips lie: where they lay for stage 1
        spec = spec.with_videos(Path(rollouts.shards[0].attributes.get("videos", "")))
    models.save_module(vision, run.folder, "vision", env=spec.label, spec=spec.plain(), clips=clips)
    embeddings = Embeddings(config.data / "codes", rollouts, vision)
    files.sweep(embeddings.folder)
    embeddings.write(vision, device, config.precision)
    _report(config, run, rollouts, embeddings, vision, device)


def _report(
    config: VisionConfig,
    run: Run,
    rollouts: Rollouts,
    embeddings: Embeddings,
    vision: models.Vision[Any],
    device: torch.device,
) -> None:
    examples = held_out_frames(rollouts, EXAMPLES, config.seed)
    with torch.no_grad(), autocast(device, config.precision):
        embed = vision.encode(examples.to(device))
        shown = vision.decode(embed[:12, : vision.code_size]).cpu().numpy()
    grid = run.folder / "reconstructions.png"
    curve = run.folder / "curves.png"
    plots.picture_grid(grid, {"seen": examples[:12].numpy(), "reconstructed": shown})
    final = run.final()
    history = run.history()
    losses = [name[9:] for name in final if name.startswith("held_out_")]
    parts = [name for name in losses if name != "loss"]
    plots.curves(curve, history, parts, f"V on {config.spec.label}")
    rows: list[tuple[str, object]] = [(f"held-out {name}", Number(final[f"held_out_{name}"])) for name in losses]
    if vision.embed_size == 2 * vision.code_size:
        used = int(((embed[:, vision.code_size :] / 2).exp().mean(0) < 0.95).sum())
        rows += [("code dimensions in use", f"{used} of {vision.code_size}")]
    record = Record(run.folder / "vision.json", "vision", config)
    record.warn(vision.doubt({name: final[f"held_out_{name}"] for name in losses}), learnt_by_heart("V", history))
    record.table(f"V of {config.spec.label} after {config.steps} steps", ("", "value"), rows)
    if rollouts.dark:
        record.note(f"note: {rollouts.dark}")
    record.show(grid, "Pictures that V never met, and what it makes of them")
    record.plot(curve, "Losses over gradient steps")
    say(paths(model=run.folder / models.FILE, codes=embeddings.folder, pictures=grid, curves=curve))
    pages.close(record, config.run, config.data)
