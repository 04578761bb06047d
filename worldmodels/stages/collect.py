"""Stage 1: rollouts to shards. A shard is a worker's task (collect_shard.py): a kill loses at most those in hand."""

import glob
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from worldmodels import estimate, models
from worldmodels.acting.controller_spec import load_controller, policy_name
from worldmodels.acting.policies import POLICIES, paper_policy
from worldmodels.core import progress
from worldmodels.core.errors import UserError, nearest
from worldmodels.core.files import check_writable, is_same, link, sweep, write_bytes
from worldmodels.core.report import paths, played_anew, say, summarise
from worldmodels.data.rollouts import Rollouts, last_round, rollout_folder
from worldmodels.data.shard import Shard, open_shard
from worldmodels.envs.reused import reused
from worldmodels.settings.envspec import to_agree
from worldmodels.settings.flags import flag
from worldmodels.settings.stages import CollectConfig
from worldmodels.show import pages
from worldmodels.show.record import Record
from worldmodels.stages.adopt import adopt
from worldmodels.stages.collect_shard import Task, Trained, agent_of, collect_shard, lockstep_of
from worldmodels.workers import make_workers
from worldmodels.workers.local import Workers

MOST_HELD_OUT = 0.25  # of all episodes, that nobody wonders about


def collect(config: CollectConfig) -> float | None:
    """Collects until `--episodes` episodes of this policy are on disk, or takes those of --from; says what is there.

    Returns the seconds that it would take, if it is a dry run.
    """
    if config.from_ != Path():
        adopt(config)
        _report(config, rollout_folder(config.data))
        return None
    policy, trained = _policy(config)
    tasks = _tasks(config, policy, trained)
    folder = rollout_folder(config.data)
    others = _others(config, tasks)
    _check(config, folder, others, tasks)
    if config.dry_run:
        return _estimate(config, policy, tasks)
    _prepare(config, policy, folder)
    for path in others:
        link(folder / path.name, path)
    _link_codes(config, others)
    missing = [task for task in tasks if not _is_there(task)]
    number = _round(folder, policy) if trained and missing else 1
    _play([replace(task, round=number) for task in missing], config)
    _report(config, folder)
    return None


def _tasks(config: CollectConfig, policy: str, trained: Trained | None) -> list[Task]:
    """The shards that there are to be in the end, those on disk among them."""
    starts = range(0, config.episodes, config.shard_size)
    shards = [range(start, min(start + config.shard_size, config.episodes)) for start in starts]
    return [Task(config, _path(config, policy, those.start), policy, trained, those) for those in shards]


def _others(config: CollectConfig, tasks: list[Task]) -> list[Path]:
    """The shards of --also, but for those that this command has itself.

    Raises:
        UserError: if there are none, or they are of another environment.
    """
    if config.also == Path():
        return []
    own = {task.path.name for task in tasks}
    shards = Rollouts(rollout_folder(config.also), config.spec.label).shards
    return [shard.path for shard in shards if shard.path.name not in own]


def _check(config: CollectConfig, folder: Path, others: list[Path], tasks: list[Task]) -> None:
    """Tells of an unknown environment, a folder of another one, or shards that may not lie beside those of --also,
    before anything is deleted or added."""
    reused(config.spec, 1)
    lying = sorted(folder.glob("*.h5"))
    if lying:
        Rollouts(folder, config.spec.label)
    if config.also == Path():
        return
    if config.also.resolve() == config.data.resolve():
        raise UserError(f"--also {config.also} is --data itself; give another --data for what is played now")
    if config.fresh:
        return
    wanted = {path.name: path for path in others}
    own = {task.path.name for task in tasks}
    for path in lying:
        if path.name not in own and not (path.name in wanted and is_same(path, wanted[path.name])):
            raise UserError(f"{path} is not of --also {config.also}, nor of this policy; move it away, or give --fresh")


def _link_codes(config: CollectConfig, shards: list[Path]) -> None:
    """What Vs have made of the shards of --also comes along, so that it need not be made anew."""
    for shard in shards:
        for made in sorted((config.also / "codes").glob(f"*/{glob.escape(shard.name)}")):
            here = config.data / "codes" / made.parent.name / made.name
            if not here.exists():
                here.parent.mkdir(parents=True, exist_ok=True)
                link(here, made)


def _round(folder: Path, policy: str) -> int:
    """Which round of collecting a controller makes: that which it has begun, or one more than there were."""
    shards = [open_shard(path) for path in sorted(folder.glob("*.h5"))]
    own = [shard for shard in shards if shard.attributes["policy"] == policy]
    return last_round(own) or 1 + last_round(shards)


def _estimate(config: CollectConfig, policy: str, tasks: list[Task]) -> float:
    """Measures and tells what the missing episodes would take."""
    missing = tasks if config.fresh else [task for task in tasks if not _is_there(task)]
    episodes = sum(len(task.episodes) for task in missing)
    return estimate.collection(config, policy, episodes, lambda envs: agent_of(tasks[0], envs), lockstep_of(tasks[0]))


def _prepare(config: CollectConfig, policy: str, folder: Path) -> None:
    """The folder, without what a killed process had in hand; with --fresh, without this policy's shards, and with
    --also without any."""
    check_writable(folder)  # if that cannot be, it is told of before anything is played
    sweep(folder)
    if config.fresh:
        theirs = "" if config.also != Path() else f"{glob.escape(policy)}-seed{config.seed}-"
        for path in folder.glob(f"{theirs}*.h5"):
            path.unlink()
        (config.data / pages.COLLECTED).unlink(missing_ok=True)


def _play(tasks: list[Task], config: CollectConfig) -> None:
    """Has workers play the episodes of `tasks`, and writes each shard as it comes."""
    episodes = sum(len(task.episodes) for task in tasks)
    frames = 0
    with (
        make_workers(config.workers, config.ray, deadline=3600) as workers,
        progress.bar(total=episodes, unit="episode", desc=f"collect {config.env}") as bar,
    ):
        tasks = _for_workers(tasks, workers)
        began = time.monotonic()
        for index, shard in workers.each(collect_shard, tasks):
            task = tasks[index]
            write_bytes(task.path, shard)
            frames += int(open_shard(task.path).obs_starts[-1])
            bar.update(len(task.episodes))
            bar.set_postfix_str(f"{frames / (time.monotonic() - began):.0f} frames/s")


def _for_workers(tasks: list[Task], workers: Workers) -> list[Task]:
    """The same tasks, for workers who find V and M of a trained controller where those were sent."""
    if not tasks or tasks[0].trained is None:  # all are of one policy
        return tasks
    trained = tasks[0].trained
    there = workers.send(trained.spec.run, models.FILES)
    sent = replace(trained, spec=trained.spec.for_worker(there))
    return [replace(task, trained=sent) for task in tasks]


def _report(config: CollectConfig, folder: Path) -> None:
    """Says what is on disk, of all policies."""
    rollouts = Rollouts(folder, config.spec.label)
    failures = [told for shard in rollouts.shards for told in shard.attributes.get("failures", ())]
    record = Record(config.data / pages.COLLECTED, "collect", config)
    record.table(f"Rollouts of {config.spec.label}", ("", "mean ± std"), _rows(rollouts, failures))
    record.note(*played_anew(failures))
    if rollouts.dark:
        record.note(f"note: {rollouts.dark}")
    held_out = len(rollouts.shards)  # the last of each
    if held_out > MOST_HELD_OUT * rollouts.num_episodes:
        record.warn(
            f"{held_out} of {rollouts.num_episodes} episodes are held out from training, for the last of every shard "
            f"is; to learn from more, collect {_more(config)}"
        )
    say(paths(rollouts=rollouts.folder))
    pages.close(record, config.run, config.data)


def _more(config: CollectConfig) -> str:
    """What leaves a smaller share held out."""
    if MOST_HELD_OUT * config.shard_size >= 1:
        return "more episodes"
    return f"with a --shard-size beyond {config.shard_size} (and --fresh, or another --data)"


def _rows(rollouts: Rollouts, failures: list[str]) -> list[tuple[str, object]]:
    """The table of what there is."""
    returns: dict[str, list[float]] = {}  # of each policy
    for shard in rollouts.shards:
        returns.setdefault(shard.attributes["policy"], []).extend(shard.attributes["returns"])
    lengths = np.concatenate([shard.lengths for shard in rollouts.shards])
    size = sum(shard.path.stat().st_size for shard in rollouts.shards)
    rows: list[tuple[str, object]] = [
        ("episodes", rollouts.num_episodes),
        ("frames", rollouts.num_steps + rollouts.num_episodes),
        ("steps per episode", summarise(lengths)),
    ]
    for name, values in returns.items():
        rows += [(f"return of {name} ({len(values)})", summarise(np.array(values)))]
    rows += [("on disk", f"{size / 1e6:.0f} MB in {len(rollouts.shards)} shards")]
    if failures:
        rows += [("episodes played anew after an error", len(failures))]
    return rows


def _policy(config: CollectConfig) -> tuple[str, Trained | None]:
    """The name of the policy for file names and streams, and the controller if it is one."""
    if config.policy == "paper":
        return paper_policy(config.env), None
    if config.policy in POLICIES:
        return config.policy, None
    if not Path(config.policy).exists():
        known = nearest(config.policy, ["paper", *POLICIES])
        raise UserError(f"--policy {config.policy} is neither a folder nor a policy; {known}")
    spec, params, _ = load_controller(Path(config.policy), "--policy")
    if spec.env.label != config.spec.label:
        wanted = to_agree(spec.env.label, config.spec.label) or "that --env, or another --policy"
        raise UserError(
            f"--policy {config.policy} was trained in {spec.env.label}, not in {config.spec.label}; give {wanted}"
        )
    version = models.fingerprint(spec.run)
    return policy_name(params, version), Trained(spec, version, params.astype(np.float32))


def _path(config: CollectConfig, policy: str, start: int) -> Path:
    return rollout_folder(config.data) / f"{policy}-seed{config.seed}-{start:06d}.h5"


def _is_there(task: Task) -> bool:
    """Whether the shard is on disk, whole, with as many episodes as asked; a shorter last one is made anew.

    Raises:
        UserError: if it was collected with other settings.
    """
    if not task.path.exists():
        return False
    shard: Shard = open_shard(task.path)
    settings = ["max_steps", "min_steps", "patience", "shard_size"]
    if task.trained:
        settings.append("noise")
    for name in settings:
        value = getattr(task.config, name)
        was = shard.attributes.get(name, 0)  # of before there was patience
        if was != value:
            found = f"{task.path} was collected with {flag(name)} {was}, not {value}"
            raise UserError(f"{found}; give that again, or another --data, or --fresh")
    return len(shard.lengths) >= len(task.episodes)
