"""All stages in one command: each is a process of its own, as if its command had been typed, so that results are equal
to the bit, and what one stage sets or holds touches no other.

What was finished is noted in RUN/run.json, with the sizes and times of the files that it read and wrote: as long as
those are the same, and the same is asked, the stage is not begun again.
"""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from worldmodels.core import files, progress
from worldmodels.core.errors import UserError
from worldmodels.core.report import lasting, say
from worldmodels.settings.run_all import NOTES, ROUNDS, ROUNDS_PLOT, Part, Plan
from worldmodels.settings.shared import COMPUTES, plain
from worldmodels.show.overview import Overview
from worldmodels.workers.child import run_stage


class Finished(NamedTuple):
    """A stage that was finished: what was asked, which files it read and wrote, and what it took."""

    asked: dict[str, Any]
    files: dict[str, list[int]]
    seconds: float


def run_all(plan: Plan) -> None:
    """Does all that is not done yet, stage by stage."""
    _check_visions(plan)
    if not plan.shared.fresh:
        _check_starts(plan)
    if plan.shared.dry_run:
        _foresee(plan)
        return
    notes = _Notes(plan)
    ahead = [index for index in range(len(plan.parts)) if not notes.is_finished(index)]
    expected = notes.expected()
    if any(expected[index] is None for index in ahead):
        expected = _tried(plan, notes)
    with Overview(plan, expected, {i: notes.seconds(i) for i in range(len(plan.parts)) if i not in ahead}) as overview:
        for index, part in enumerate(plan.parts):
            if notes.is_finished(index):  # asked now: what a stage before has changed is learnt from
                continue
            overview.begin(index)
            if part.round > 1 and plan.shared.keep_vision:
                _see_by(plan.run, part.run)
            began = time.monotonic()
            run_stage([part.command, *part.words], overview.hear, overview.show)
            overview.end(index)
            notes.finish(index, time.monotonic() - began)
    if not ahead:
        say(f"all of {plan.run} is done already; --fresh starts anew")
    if plan.parts[-1].round > 1:
        from worldmodels.stages import rounds  # late: torch, which the process that starts stages has no need of

        rounds.tell(plan)


def _tried(plan: Plan, notes: "_Notes") -> list[float | None]:
    """Seconds that each stage will take. All are tried for a moment, so that what only the last one cannot do is told
    of before the first begins."""
    expected: list[float | None] = [None] * len(plan.parts)

    def hear(message: dict[str, Any]) -> None:
        if "expected" in message:
            expected[message["part"]] = message["expected"]

    say("trying each stage for a moment: whether it can be done here, and how long it will take")
    run_stage(["run", *plan.words, "--dry-run"], hear, lambda: None)
    notes.expect(expected)
    return expected


def _check_visions(plan: Plan) -> None:
    """Raises UserError if a further round has learnt by another V than it is to see by now."""
    for run in {part.run for part in plan.parts if part.round > 1}:
        link = run / "vision"
        if plan.shared.keep_vision and link.exists() and not link.is_symlink():
            raise UserError(f"{link} is a V of this round's own; give --no-keep-vision, or move {run} away")
        if not plan.shared.keep_vision and link.is_symlink():
            raise UserError(f"{run} sees by the first round's V; give --keep-vision, or move {run} away")


def _see_by(first: Path, run: Path) -> None:
    """Has a further round see by the first one's V."""
    link = run / "vision"
    if not link.is_symlink():
        run.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(first / "vision", run))


class _Notes:
    """RUN/run.json."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._path = plan.run / NOTES
        for folder in (plan.run, plan.data):
            files.check_writable(folder)
        files.sweep(plan.run)
        self._finished: dict[str, Finished] = {}
        self._expected: dict[str, list[Any]] = {}  # by the stage's name: what was asked, the seconds
        if plan.shared.fresh:
            for stale in (self._path, plan.run / ROUNDS, plan.run / ROUNDS_PLOT):
                stale.unlink(missing_ok=True)
        elif self._path.exists():
            self._read()

    def _read(self) -> None:
        """What they say, if it can be read; else stages are begun again, and find themselves what they have done."""
        try:
            found = json.loads(files.read_bytes(self._path, 1 << 24))
            self._finished = {name: _finished(*one) for name, one in found["finished"].items()}
            self._expected = {name: [asked, float(seconds)] for name, (asked, seconds) in found["expected"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._finished = {}
            say(f"note: {self._path} cannot be read ({error}); every stage is asked what it has done")

    def is_finished(self, index: int) -> bool:
        """Whether a stage was finished as it is asked for now, and nothing was changed since."""
        one = self._finished.get(self._name(index))
        return one is not None and (one.asked, one.files) == (self._asked(index), _signs(self._plan, index))

    def seconds(self, index: int) -> float:
        """What a finished stage took."""
        return self._finished[self._name(index)].seconds

    def finish(self, index: int, seconds: float) -> None:
        """Notes that a stage is finished."""
        signs = _signs(self._plan, index)
        self._finished[self._name(index)] = Finished(self._asked(index), signs, round(seconds, 1))
        self._write()

    def expected(self) -> list[float | None]:
        """Seconds that each stage will take, where that is known."""
        known = [self._expected.get(self._name(i), [None, None]) for i in range(len(self._plan.parts))]
        return [one[1] if one[0] == self._asked(i) else None for i, one in enumerate(known)]

    def expect(self, seconds: list[float | None]) -> None:
        """Notes what stages will take."""
        self._expected |= {self._name(i): [self._asked(i), one] for i, one in enumerate(seconds) if one is not None}
        self._write()

    def _write(self) -> None:
        notes = {"command": list(self._plan.words), "finished": self._finished, "expected": self._expected}
        files.write_text(self._path, files.to_json(notes, 2) + "\n")

    def _name(self, index: int) -> str:
        part = self._plan.parts[index]
        return part.name if part.stage != "evaluate" else f"{part.name} {part.config.run.name}"

    def _asked(self, index: int) -> dict[str, Any]:
        settings = plain(self._plan.parts[index].config)
        asked: dict[str, Any] = json.loads(files.to_json({k: v for k, v in settings.items() if k not in COMPUTES}))
        return asked


def _finished(asked: dict[str, Any], signs: dict[str, list[int]], seconds: float) -> Finished:
    return Finished(asked, signs, float(seconds))


def _signs(plan: Plan, index: int) -> dict[str, list[int]]:
    """Size and time of each file that a stage reads and writes, by which changes are seen."""
    found = sorted(path for path in _files(plan, plan.parts[index]) if path.is_file())
    return {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in found}


def _files(plan: Plan, part: Part) -> Iterator[Path]:
    """What the results of a stage lie in, and what they were made of."""
    models = [part.run / stage / "model.safetensors" for stage in ("vision", "memory")]
    learns_from_data = part.stage == "controller" and part.config.learner == "actor-critic"  # its dreams begin there
    if part.stage in ("collect", "vision", "memory") or learns_from_data:
        yield from (part.data / "rollouts").glob("*.h5")
    if part.stage == "collect" and Path(part.config.policy).is_dir():
        yield from Path(part.config.policy).rglob("controller.safetensors")
    yield from {"collect": [], "vision": models[:1]}.get(part.stage, models)
    yield from _begins_with(part)
    if part.stage in ("controller", "evaluate"):
        each = plan.config("controller", part.round).each() if part.stage == "controller" else []
        folders = [one.folder for one in each] or [part.config.run]
        yield from (folder / "controller.safetensors" for folder in folders)


def _length(config: Any) -> float:
    """How long a stage takes, in units of its own."""
    if hasattr(config, "length"):
        return float(config.length[1])
    return float(getattr(config, "steps", 0) or config.episodes)


def _begins_with(part: Part) -> list[Path]:
    """What a stage takes weights from, by --start-from."""
    begun = getattr(part.config, "start_from", Path())
    if begun == Path():
        return []
    if part.stage == "controller":
        names = ("controller.safetensors", "checkpoint.safetensors")
        return [path for folder in (begun, *part.config.or_from) for name in names for path in folder.rglob(name)]
    return [begun / part.stage / "model.safetensors"]


def _check_starts(plan: Plan) -> None:
    """Raises UserError if what a stage of the first round is to begin with is not there, or if further rounds were
    begun otherwise, or to learn for another time, than is asked for now."""
    for part in plan.parts:
        begins = getattr(part.config, "start_from", Path())
        if part.round == 1 and begins != Path() and not any(path.is_file() for path in _begins_with(part)):
            what = {"vision": "V", "memory": "M"}.get(part.stage, "controller")
            raise UserError(f"--{part.stage}.start-from {begins} holds no {what}")
        if part.round > 1 and part.stage in ("vision", "memory"):
            _check_begun(part, plan.shared.warm_start)
        if part.round > 1 and part.stage == "controller":
            _check_best(part)


def _begun(place: Path) -> dict[str, Any]:
    """What was asked of the stage that has learnt in this folder; nothing if none has, or that cannot be read: the
    stage itself tells of that."""
    from worldmodels.core import schema  # late: torch

    learnt = (place / name for name in ("model.safetensors", "controller.safetensors", "checkpoint.safetensors"))
    if place.is_symlink() or not any(path.is_file() for path in learnt):
        return {}
    try:
        begun = schema.parse(files.read_bytes(place / "config.json", 1 << 20))
        schema.named(schema.anything)(begun)
    except (schema.Wrong, UserError):
        return {}
    return dict(begun)


def _check_best(part: Part) -> None:
    begun = _begun(part.config.folder)
    if begun and bool(begun.get("or_from")) != bool(part.config.or_from):
        how = "with --no-from-best; give that," if part.config.or_from else "without --no-from-best; leave it out,"
        raise UserError(f"{part.config.folder} was begun {how} or move {part.run} away")


def _check_begun(part: Part, warm: bool) -> None:
    place = part.run / part.stage
    begun = _begun(place)
    if not begun:
        return
    advice = f"or move {part.run} away"
    if (begun.get("start_from", ".") == ".") != (part.config.start_from == Path()):
        how = "with --no-warm-start; give that," if warm else "with --warm-start; leave out --no-warm-start,"
        raise UserError(f"{part.run} was begun {how} {advice}")
    if begun.get("steps") != part.config.steps:
        raise UserError(
            f"{place} learnt for {begun.get('steps')} steps, not {part.config.steps}; give --round-share and "
            f"--{part.stage}.steps as before, {advice}"
        )


def _foresee(plan: Plan) -> None:
    """--dry-run: what each stage would take, measured for seconds; what cannot be done is told of."""
    from worldmodels import estimate  # late: torch, which the process that starts stages has no need of
    from worldmodels.show import films
    from worldmodels.stages import collect, train_controller, train_memory, train_vision

    first, vision, memory, controller = (plan.config(name) for name in ("collect", "vision", "memory", "controller"))
    trouble = films.trouble(controller.spec.tested())
    if trouble:
        say(f"note: there will be no film of the real environment: {trouble}")
    if (vision.run / "vision" / "model.safetensors").exists():
        controller = train_controller.with_backgrounds(controller)
    asked = vision, memory
    estimates: dict[str, Callable[[Any], float | None]] = {
        "collect": lambda _: collect.collect(dataclasses.replace(first, dry_run=True)),
        "vision": lambda _: estimate.vision(vision, train_vision.EXAMPLES, first),
        "memory": lambda _: estimate.memory(memory, train_memory.CHECKED, first, vision),
        "controller": lambda _: estimate.evolution(controller, asked),
        "evaluate": lambda config: estimate.evaluation(config, controller, asked),
    }
    seconds: list[float] = []
    of_stage: dict[str, float] = {}
    for index, part in enumerate(plan.parts):
        if part.round == 1 or part.stage == "evaluate":
            of_stage[part.stage] = estimates[part.stage](part.config) or 0.0
            seconds.append(of_stage[part.stage])
        else:  # of further rounds, as far as the first one tells
            seconds.append(of_stage[part.stage] * _length(part.config) / _length(plan.config(part.stage)))
        progress.tell(part=index, expected=seconds[-1])
    if not progress.is_told():
        say(f"all stages: about {lasting(sum(seconds))}, less where episodes end early")
