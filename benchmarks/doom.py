"""Doom from the game to the disk, in one worker, beside a bare loop over the same game."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import vizdoom

from benchmarks.measure import Row
from worldmodels.acting.policies import held
from worldmodels.core.files import write_bytes
from worldmodels.core.seeding import rng
from worldmodels.data.shard import open_shard
from worldmodels.envs import make_env
from worldmodels.settings.stages import CollectConfig
from worldmodels.stages.collect_shard import Task, collect_shard
from worldmodels.workers.local import Workers

EPISODES, SHARD = 64, 16


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, Workers(1) as worker:
        config = CollectConfig(env="doom", data=Path(folder), episodes=EPISODES, shard_size=SHARD)
        starts = range(0, EPISODES, SHARD)
        tasks = [Task(config, Path(folder) / f"{i}.h5", "held", None, range(i, i + SHARD)) for i in starts]
        env = make_env("doom")
        game: vizdoom.DoomGame = env.unwrapped.game
        ours, bare = lambda: collected(worker, tasks), lambda: step(game)
        yield Row("Doom, collected", "frames/s", ours, limit=bare, of_limit=0.75)
        env.close()


def collected(worker: Workers, tasks: list[Task]) -> float:
    """As stage 1, which writes what its workers send."""
    for index, shard in worker.each(collect_shard, tasks):
        write_bytes(tasks[index].path, shard)
    return float(sum(open_shard(task.path).obs_starts[-1] for task in tasks))


def step(game: vizdoom.DoomGame) -> float:
    """What nothing can pass: the game, its pictures taken and thrown away."""
    frames = 0
    for episode in range(EPISODES):
        policy = held(rng(episode, "policy"), 1)
        game.set_seed(episode)
        game.new_episode()
        tics = 0
        while not game.is_episode_finished():
            assert game.get_state().screen_buffer is not None
            frames += 1
            lateral = policy(tics)[0]
            game.make_action([lateral < -1 / 3, lateral > 1 / 3])
            tics += 1
        frames += 1  # ours keeps one more, after the last step
    return frames
