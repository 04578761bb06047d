"""Stage 1: rollouts to shards. A shard is a worker's task, so a kill loses at most the shards in hand.

Workers send shards home as bytes: on a cluster they have no part in this machine's disk.
"""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from worldmodels import estimate, models
from worldmodels.acting.agents import Agent, BlindAgent, ModelAgent
from worldmodels.acting.controllerspec import ControllerSpec, load_controller
from worldmodels.acting.policies import POLICIES, paper_policy
from worldmodels.acting.rollout import TRIES, rollout
from worldmodels.core.errors import UserError, nearest
from worldmodels.core.files import write_bytes
from worldmodels.core.report import paths, played_anew, say, summarise, table
from worldmodels.core.seeding import integer
from worldmodels.data.episode import Episode
from worldmodels.data.store import Rollouts, Shard, open_shard, pack_shard, rollout_folder
from worldmodels.envs.distract import train_clips
from worldmodels.envs.pool import pooled
from worldmodels.settings.config import CollectConfig, flag
from worldmodels.workers import make_workers

LOCKSTEP = 8  # environments that one worker steps side by side where a model sees for all of them; else one at a time
ATTEMPTS = 20  # how often an episode shorter than --min-steps is collected anew


@dataclass(frozen=True)
class Trained:
    """A trained controller that collects."""

    spec: ControllerSpec
    version: str  # the fingerprint of V and M
    params: np.ndarray  # float32 (D,)


@dataclass(frozen=True)
class Task:
    """One shard: which episodes, and where to."""

    config: CollectConfig
    path: Path
    policy: str
    trained: Trained | None  # who acts, if it is no policy
    episodes: range


def collect(config: CollectConfig) -> None:
    """Collects until `--episodes` episodes of this policy are on disk, then says what is there."""
    policy, trained = _policy(config)
    starts = range(0, config.episodes, config.shard_size)
    shards = [range(start, min(start + config.shard_size, config.episodes)) for start in starts]
    tasks = [Task(config, _path(config, policy, those.start), policy, trained, those) for those in shards]
    pooled(config.spec, 1)  # an unknown environment is told of here, once, and before anything is deleted
    folder = rollout_folder(config.data)
    if any(folder.glob("*.h5")):
        Rollouts(folder, config.spec.label)  # refuses a folder of another environment before anything is added to it
    if config.dry_run:
        missing = tasks if config.fresh else [task for task in tasks if not _is_there(task)]
        episodes = sum(len(task.episodes) for task in missing)
        estimate.collection(config, policy, episodes, lambda pool: _agent(tasks[0], pool), _lockstep(tasks[0]))
        return
    folder.mkdir(parents=True, exist_ok=True)  # if that cannot be, it is told of before anything is played
    if config.fresh:
        for path in folder.glob(_path(config, policy, 0).name.replace("000000", "*")):
            path.unlink()
    missing = [task for task in tasks if not _is_there(task)]
    with (
        make_workers(config.workers, config.ray, deadline=3600) as workers,
        tqdm(total=sum(len(task.episodes) for task in missing), unit="episode", desc=f"collect {config.env}") as bar,
    ):
        if trained:
            there = workers.send(trained.spec.run, models.FILES)
            sent = replace(trained, spec=trained.spec.for_worker(there))
            missing = [replace(task, trained=sent) for task in missing]
        frames = 0
        began = time.monotonic()
        for index, shard in workers.each(collect_shard, missing):
            write_bytes(missing[index].path, shard)
            frames += int(open_shard(missing[index].path).obs_starts[-1])
            bar.update(len(missing[index].episodes))
            bar.set_postfix_str(f"{frames / (time.monotonic() - began):.0f} frames/s")
    rollouts = Rollouts(folder, config.spec.label)
    returns: dict[str, list[float]] = {}  # of each policy
    for shard in rollouts.shards:
        returns.setdefault(shard.attributes["policy"], []).extend(shard.attributes["returns"])
    lengths = np.concatenate([shard.lengths for shard in rollouts.shards])
    size = sum(shard.path.stat().st_size for shard in rollouts.shards)
    rows = [
        ("episodes", rollouts.num_episodes),
        ("frames", rollouts.num_steps + rollouts.num_episodes),
        ("steps per episode", summarise(lengths)),
        *((f"return of {name} ({len(values)})", summarise(np.array(values))) for name, values in returns.items()),
        ("on disk", f"{size / 1e6:.0f} MB in {len(rollouts.shards)} shards"),
    ]
    failures = [told for shard in rollouts.shards for told in shard.attributes.get("failures", ())]
    rows += [("episodes played anew after an error", len(failures))] if failures else []
    say(table(f"Rollouts of {config.spec.label}", ("", "mean ± std"), rows))
    say(*played_anew(failures))
    if rollouts.dark:
        say(f"note: {rollouts.dark}")
    say(paths(rollouts=rollouts.folder))


def collect_shard(task: Task) -> bytes:
    """A worker's task: plays the episodes of one shard."""
    config, pool = task.config, pooled(task.config.spec, min(_lockstep(task), len(task.episodes)))
    agent = _agent(task, pool)
    failures = list[str]()
    attributes = {
        "env": config.spec.label, "policy": task.policy, "seed": config.seed, "max_steps": config.max_steps,
        "min_steps": config.min_steps, "shard_size": config.shard_size, "noise": config.noise if task.trained else 0.0,
        "clips": sorted(train_clips(config.spec)), "videos": config.spec.videos, "failures": failures,
    }  # fmt: skip
    groups = (task.episodes[i : i + len(pool)] for i in range(0, len(task.episodes), len(pool)))
    episodes = (one for those in groups for one in _played(task, those, pool, agent, failures))
    return pack_shard(episodes, attributes)


def _played(task: Task, episodes: range, pool: list[gymnasium.Env], agent: Agent, failures: list[str]) -> list[Episode]:
    """Some episodes of a shard, each played anew until it is long enough; notes how the environment failed meanwhile.

    Raises:
        UserError: if hardly any is long enough, or more fail than the shard has episodes: then what is left would not
            be what the environment is like.
    """
    config, kept = task.config, dict[int, Episode]()
    for attempt in range(ATTEMPTS):
        todo = [index for index in episodes if index not in kept]
        seeds = [integer(config.seed, "collect", task.policy, index, attempt) for index in todo]
        outcomes = rollout(pool, agent, seeds, config.max_steps, record=True)
        failures += [told for outcome in outcomes for told in outcome.failures]
        if len(failures) > max(TRIES, len(task.episodes)):
            raise UserError(f"{failures[-1]}; more than half of the episodes fail like that")
        played = {i: o.episode for i, o in zip(todo, outcomes, strict=True) if o.episode}
        kept |= {i: episode for i, episode in played.items() if len(episode) >= config.min_steps}
        if len(kept) == len(episodes):
            return [kept[index] for index in episodes]
    raise UserError(f"--min-steps {config.min_steps} is hardly ever reached; give a smaller one")


def _lockstep(task: Task) -> int:
    return LOCKSTEP if task.trained else 1


def _agent(task: Task, pool: list) -> Agent:
    if task.trained is None:
        return BlindAgent(task.policy, pool[0].action_space.shape[0])
    spec, model = task.trained.spec, task.trained.spec.model(task.trained.version)
    return ModelAgent(model, spec.controller(model), spec.inputs, task.trained.params, task.config.noise)


def _policy(config: CollectConfig) -> tuple[str, Trained | None]:
    """The name of the policy for file names and streams, and the controller if it is one."""
    if config.policy == "paper":
        return paper_policy(config.env), None
    if config.policy in POLICIES:
        return config.policy, None
    if not Path(config.policy).exists():
        known = nearest(config.policy, ["paper", *POLICIES])
        raise UserError(f"--policy {config.policy} is neither a folder nor a policy; {known}")
    spec, params, _ = load_controller(Path(config.policy))
    if spec.env.label != config.spec.label:
        raise UserError(f"--policy {config.policy} was trained in {spec.env.label}, not in {config.spec.label}")
    version = models.fingerprint(spec.run)
    params = params.astype(np.float32)
    name = "controller-" + hashlib.sha256(params.tobytes() + version.encode()).hexdigest()[:8]
    return name, Trained(spec, version, params)


def _path(config: CollectConfig, policy: str, start: int) -> Path:
    return rollout_folder(config.data) / f"{policy}-seed{config.seed}-{start:06d}.h5"


def _is_there(task: Task) -> bool:
    """Whether the shard is on disk, whole, with as many episodes as asked; a shorter last one is made anew."""
    if not task.path.exists():
        return False
    shard: Shard = open_shard(task.path)
    asked: dict[str, Any] = {name: getattr(task.config, name) for name in ("max_steps", "min_steps", "shard_size")}
    asked |= {"noise": task.config.noise} if task.trained else {}
    for name, value in asked.items():
        if shard.attributes[name] != value:
            found = f"{task.path} was collected with {flag(name)} {shard.attributes[name]}, not {value}"
            raise UserError(f"{found}; give that again, or another --data, or --fresh")
    return len(shard.lengths) >= len(task.episodes)
