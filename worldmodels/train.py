"""Stages 2 and 3: one training loop, and what each stage feeds it and makes of the result."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from worldmodels import checkpoint, films, models, plots, seeding
from worldmodels.calibration import dream_lengths, one_step
from worldmodels.codes import Codes, cut, sequence_batches
from worldmodels.collect import rollout_folder
from worldmodels.config import MemoryConfig, TrainConfig, VisionConfig
from worldmodels.errors import UserError
from worldmodels.models.base import autocast, device_of
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.models.vae import VAE
from worldmodels.policies import POLICIES
from worldmodels.report import paths, say, summarise, table
from worldmodels.run import Run
from worldmodels.store import Rollouts, frame_batches

LOG_EVERY = 25  # steps
Batches = Callable[[int], Iterator[dict[str, Any]]]
"""How many batches to pass over -> the batches after them, for ever."""
HeldOut = Callable[[], dict[str, float]]


def fit(module: Any, batches: Batches, held_out: HeldOut, config: TrainConfig, run: Run, device: torch.device) -> None:
    """Trains `module` for `config.steps` gradient steps, going on from the run's checkpoint.

    Each step's randomness has a stream of its own, so a resumed run equals one that was never stopped, to the bit.

    Args:
        module: answers `loss(batch, carry, generator)` (models.base.Trainable).
        batches: where data comes from.
        held_out: metrics on data that is never trained on; called at each checkpoint.
        config: sizes and rates.
        run: where metrics and checkpoints go.
        device: where to compute.

    Raises:
        UserError: if a loss is not finite; the last checkpoint is untouched.
    """
    torch.set_num_threads(max(1, config.workers))
    module.to(device).train()
    optimizer = torch.optim.Adam(module.parameters(), config.learning_rate)
    step, carry = 0, {}
    saved = run.resume()
    if saved:
        checkpoint.load_weights(module, saved["weights"], run.checkpoint_path)
        optimizer.load_state_dict(saved["optimizer"])
        step, carry = saved["step"], {name: value.to(device) for name, value in saved["carry"].items()}
    with tqdm(total=config.steps, initial=step, unit="step", desc=run.kind) as bar:
        source = batches(step)
        while step < config.steps:
            batch = next(source)
            carry = {} if batch.pop("fresh", False) else carry
            batch = {name: value.to(device) for name, value in batch.items()}
            rate = _learning_rate(config, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast(device, config.precision):
                loss, metrics, carry = module.loss(batch, carry, seeding.generator(config.seed, run.kind, step))
            if not math.isfinite(float(loss.detach())):
                raise _diverged(f"the loss is {float(loss.detach())}", step, config, run)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip:
                torch.nn.utils.clip_grad_value_(module.parameters(), config.clip)
            optimizer.step()
            step += 1
            bar.update()
            last, save = step == config.steps, step % config.save_every == 0
            if step % LOG_EVERY == 0 or save or last:
                line = {"loss": float(loss.detach()), "learning_rate": rate}
                line |= {name: float(value) for name, value in metrics.items()}
                bar.set_postfix({name: f"{value:.4g}" for name, value in line.items() if name != "learning_rate"})
                if save or last:
                    line |= {f"held_out_{name}": value for name, value in held_out().items()}
                run.log(step, line)
            if save or last:
                _refuse_broken(module, step, config, run)
                run.save(
                    {"step": step, "weights": module.state_dict(), "optimizer": optimizer.state_dict(), "carry": carry}
                )
    module.eval()
    run.close()


def _refuse_broken(module: torch.nn.Module, step: int, config: TrainConfig, run: Run) -> None:
    """A gradient can break the weights under a loss that was finite; they must not replace the last checkpoint."""
    if not all(bool(torch.isfinite(weights).all()) for weights in module.parameters()):
        raise _diverged("a weight is not a finite number", step, config, run)


def _diverged(what: str, step: int, config: TrainConfig, run: Run) -> UserError:
    return UserError(
        f"{what} at step {step} of {run.folder}; try --fresh with a --learning-rate below {config.learning_rate:g} or "
        "with --precision fp32 (the last checkpoint is kept)"
    )


def train_vision(config: VisionConfig) -> None:
    """Stage 2: trains V on frames, shows what it reconstructs, writes the codes of all episodes."""
    rollouts = Rollouts(rollout_folder(config.data), config.env)
    device = device_of(config.device)
    run = Run(config.run / "vision", config, "vision", rollouts=rollouts.fingerprint)
    torch.manual_seed(seeding.integer(config.seed, "vision", "weights"))
    vision = VAE(config.code_size, config.kl_floor)
    examples = _held_out_frames(rollouts, 512, config.seed)

    def batches(skip: int) -> Iterator[dict[str, Any]]:
        def rng_of(epoch: int) -> np.random.Generator:
            return seeding.rng(config.seed, "vision", "order", epoch)

        for obs in frame_batches(rollouts, config.batch_size, config.shuffle_buffer, rng_of, skip):
            yield {"obs": torch.from_numpy(obs)}

    def held_out() -> dict[str, float]:
        return _mean_loss(vision, iter([{"obs": examples}]), config, device)

    fit(vision, batches, held_out, config, run, device)
    models.save_module(vision, run.folder, "vision", env=config.env)
    codes = Codes(config.data / "codes", rollouts, vision)
    codes.write(vision, device, config.precision)
    with torch.no_grad(), autocast(device, config.precision):
        embed = vision.encode(examples.to(device))
        shown = vision.decode(embed[:12, : config.code_size]).cpu().numpy()
    grid, curve = run.folder / "reconstructions.png", run.folder / "curves.png"
    plots.picture_grid(grid, {"seen": examples[:12].numpy(), "reconstructed": shown})
    plots.curves(curve, run.history(), ["reconstruction", "kl"], f"V on {config.env}")
    final = run.history()[-1]  # whose last line is of the last step, with its held-out losses
    used = int(((embed[:, config.code_size :] / 2).exp().mean(0) < 0.95).sum())
    rows = [(f"held-out {name[9:]}", f"{value:.2f}") for name, value in final.items() if "held_out_" in name]
    rows += [("code dimensions in use", f"{used} of {config.code_size}")]
    say(table(f"V of {config.env} after {config.steps} steps", ("", "value"), rows))
    say(paths(model=run.folder / models.FILE, codes=codes.folder, pictures=grid, curves=curve))


def train_memory(config: MemoryConfig) -> None:
    """Stage 3: trains M on sequences of codes, shows how well its heads and its dreams are calibrated."""
    rollouts = Rollouts(rollout_folder(config.data), config.env)
    vision, _ = models.load_module(config.run / "vision", "vision")
    codes = Codes(config.data / "codes", rollouts, vision)
    device = device_of(config.device)
    codes.write(vision.to(device), device, config.precision)  # of episodes collected since V was trained
    built_on = {"vision": codes.vision_fingerprint, "rollouts": rollouts.fingerprint}
    run = Run(config.run / "memory", config, "memory", **built_on)
    torch.manual_seed(seeding.integer(config.seed, "memory", "weights"))
    memory = MDNRNN(
        vision.code_size, rollouts.action_size, config.hidden_size, config.mixtures, config.restart_input,
        config.reward, config.termination, config.termination_weight,
    )  # fmt: skip
    mean, std = rollouts.reward_moments()
    memory.reward_mean.fill_(mean)
    memory.reward_std.fill_(max(std, 1e-3))  # a constant reward has no scale
    examples = codes.held_out()

    def batches(skip: int) -> Iterator[dict[str, Any]]:
        def rng_of(epoch: int) -> np.random.Generator:
            return seeding.rng(config.seed, "memory", "order", epoch)

        return sequence_batches(codes, config.batch_size, config.sequence_length, config.shuffle_buffer, rng_of, skip)

    def held_out() -> dict[str, float]:
        return _mean_loss(memory, cut(examples, len(examples), config.sequence_length), config, device)

    fit(memory, batches, held_out, config, run, device)
    extra = {"vision_fingerprint": codes.vision_fingerprint, "starts": codes.starts()}
    models.save_module(memory, run.folder, "memory", env=config.env, **extra)
    _report_memory(config, run, rollouts, examples, device)


def _report_memory(config: MemoryConfig, run: Run, rollouts: Rollouts, examples: list, device: torch.device) -> None:
    model = models.load(config.run, device)
    history = run.history()
    rows = [(f"held-out {name[9:]}", f"{value:.4f}") for name, value in history[-1].items() if "held_out_" in name]
    predicted, happened, reward, paid = one_step(model, examples, config.precision, config.seed)
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
                lengths = dream_lengths(model, policy, 256, limit, config.seed, config.precision, sample_end=sample_end)
                rows += [(f"steps, dreamt at tau 1, {how}", str(summarise(lengths)))]
    film, curve = run.folder / "dream_beside_reality.mp4", run.folder / "curves.png"
    films.open_loop(film, model, next(rollouts.held_out()), config.precision)
    shown = [name for name in ("nll", "termination", "reward") if name in history[-1]]
    plots.curves(curve, history, shown, f"M on {config.env}")
    say(table(f"M of {config.env} after {config.steps} steps", ("", "value"), rows))
    say(paths(model=run.folder / models.FILE, film=film, plots=run.folder))


def _learning_rate(config: TrainConfig, step: int) -> float:
    ratio = config.final_learning_rate / config.learning_rate
    return config.learning_rate * ratio ** (step / max(1, config.steps - 1))


def _mean_loss(
    module: Any, batches: Iterator[dict[str, Any]], config: TrainConfig, device: torch.device
) -> dict[str, float]:
    """Metrics in mean over batches, always with the same noise."""
    module.eval()
    lines: list[dict[str, float]] = []
    carry: Any = {}
    for i, batch in enumerate(batches):
        carry = {} if batch.pop("fresh", False) else carry
        batch = {name: value.to(device) for name, value in batch.items()}
        with torch.no_grad(), autocast(device, config.precision):
            loss, metrics, carry = module.loss(batch, carry, seeding.generator(config.seed, "held out", i))
        lines.append({"loss": float(loss)} | {name: float(value) for name, value in metrics.items()})
    module.train()
    return {name: float(np.mean([line[name] for line in lines])) for name in lines[0]}


def _held_out_frames(rollouts: Rollouts, count: int, seed: int) -> torch.Tensor:
    """uint8 (N, 64, 64, 3), N <= count, from all held-out episodes alike."""
    per_shard = math.ceil(count / len(rollouts.shards))
    frames = []
    for i, shard in enumerate(rollouts.shards[:count]):
        obs = shard.read("obs", int(shard.obs_starts[-2]))
        chosen = seeding.rng(seed, "held out", i).choice(len(obs), min(per_shard, len(obs)), replace=False)
        frames.append(obs[np.sort(chosen)])
    return torch.from_numpy(np.concatenate(frames)[:count])
