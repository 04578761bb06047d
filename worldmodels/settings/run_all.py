"""The command line of `worldmodels run` as the settings of each stage.

What all stages share is given once. A flag of one stage has its name in front (--vision.steps), and needs it only where
several stages have such a flag. Each stage is then asked as if its own command had been typed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from worldmodels.core import plugins
from worldmodels.core.errors import UserError, nearest, shortened
from worldmodels.settings.command_line import (
    model_asked_for,
    parse,
    positive,
    spelt_out,
    typed_flags,
    types_of,
)
from worldmodels.settings.commands import EvaluateConfig, RunConfig
from worldmodels.settings.flags import flag, names_of
from worldmodels.settings.models import OURS
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig, VisionConfig

STAGES: Mapping[str, type] = {
    "collect": CollectConfig,
    "vision": VisionConfig,
    "memory": MemoryConfig,
    "controller": ControllerConfig,
    "evaluate": EvaluateConfig,
}
COMMANDS = {"vision": "train-vision", "memory": "train-memory", "controller": "train-controller"}
"""The commands of those stages that are not called as theirs."""
CHAINED = ("--dream", "--tau")
"""What evaluation takes over from the controller, so that these are the controller's flags alone."""
ROUNDS = "rounds.json"
ROUNDS_PLOT = "rounds.png"
"""In the first round's run: what came of all."""
NOTES = "run.json"
"""Where a run's folder tells what of it is finished, and by which command."""
TYPED = {"--episodes": "--round-episodes"}
"""What a flag of a further round's stage is called here."""
SHARED = {flag(name) for name in names_of(RunConfig)}


class Part(NamedTuple):
    """A stage as it was asked for."""

    stage: str
    words: tuple[str, ...]  # the flags of its own command
    config: Any
    round: int = 1
    run: Path = Path()  # folder of everything learnt in its round
    data: Path = Path()  # folder of its round's rollouts and codes

    @property
    def command(self) -> str:
        """The command that does it alone."""
        return COMMANDS.get(self.stage, self.stage)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.stage if self.round == 1 else f"{self.stage} of round {self.round}"


@dataclass(frozen=True)
class Plan:
    """All that `worldmodels run` is to do.

    Attributes:
        words: as they were typed.
        shared: what holds for all stages.
        parts: in order, round by round; a sweep over temperatures has an evaluation for each of its controllers.
    """

    words: tuple[str, ...]
    shared: RunConfig
    parts: tuple[Part, ...]

    def config(self, stage: str, number: int = 1) -> Any:
        """The settings of a stage in that round."""
        return next(part.config for part in self.parts if (part.stage, part.round) == (stage, number))

    @property
    def run(self) -> Path:
        """The folder of everything learnt; those of further rounds lie in it."""
        return self.parts[0].run

    @property
    def data(self) -> Path:
        """The folder of rollouts and codes; those of further rounds lie in it."""
        return self.parts[0].data


class Given(NamedTuple):
    """A flag as it was typed, and as its stages know it."""

    typed: str  # --vision.steps
    known: str  # --steps
    values: list[str]

    @property
    def words(self) -> list[str]:
        return [self.known, *self.values]


def parse_all(argv: list[str], called: str = "") -> Plan:
    """The command line as the settings of all stages.

    Raises:
        UserError: for whatever a stage's own command would refuse, for a flag that several stages have, and for what
            one stage asks of another that does not give it. It names the flag as it was typed.
    """
    argv = spelt_out(argv, RunConfig)
    typed_flags(argv)  # refuses what is no flag
    given = [_known(words) for words in _groups(argv)]
    shared = [one for one in given if one.known in SHARED or positive(one.known) in SHARED or one.known == "--help"]
    config = parse(RunConfig, _words(shared), called)
    owned = _owned([one for one in given if one not in shared])
    if any(one.known == "--from" for one in owned["collect"]):
        raise UserError("--from: a run begins with episodes that it plays; give collect --from, then each stage")
    later = config.rounds > 1 and not any(one.known == "--policy" for one in owned["collect"])
    first = [one for one in owned["collect"] if not (later and one.known == "--noise")]  # which is of a C's actions
    parts = _round(shared, owned | {"collect": first})
    _refuse_unpaid_dreams(parts)
    _refuse_worlds(parts)
    for number in range(2, config.rounds + 1):
        parts += _further(number, config, parts, shared, owned)
    lasting = [part for part in parts if part.stage != "evaluate" or part.round == config.rounds]
    return Plan(tuple(argv), config, tuple(lasting))


def _round(shared: list[Given], owned: dict[str, list[Given]], number: int = 1) -> list[Part]:
    """All stages, once."""
    kinds = [stage for stage in STAGES if stage != "evaluate"]
    parts = [_part(stage, shared, owned[stage]) for stage in kinds]
    controller = parts[-1].config
    parts += [_evaluation(each, shared, owned["evaluate"]) for each in controller.each()]
    return [part._replace(round=number, run=controller.run, data=controller.data) for part in parts]


def _further(
    number: int,
    config: RunConfig,
    before: list[Part],
    shared: list[Given],
    owned: dict[str, list[Given]],
) -> list[Part]:
    """All stages once more, with episodes of the C of the last round beside those that it had learnt from.

    Raises:
        UserError: if there are several such controllers.
    """
    first, last = before[0], before[-1]
    of_first = {part.stage: part.config for part in before if part.round == 1}
    controllers = next(part.config for part in reversed(before) if part.stage == "controller").each()
    if len(controllers) > 1:
        taus = " ".join(f"{one.tau[0]:g}" for one in controllers)
        raise UserError(f"--tau {taus}: of several controllers none is to play for the next round; give --rounds 1")
    episodes = config.round_episodes or max(2, round(config.share * first.config.episodes))
    told = {"--run": first.run / f"round{number}", "--data": first.data / f"round{number}"}
    asked: dict[str, dict[str, object]] = {
        "collect": {"--policy": controllers[0].folder, "--also": last.data, "--episodes": episodes},
        "vision": _shortened(config, "steps", of_first["vision"].steps),
        "memory": _shortened(config, "steps", of_first["memory"].steps),
        "controller": _shortened(config, *of_first["controller"].length),
    }
    if config.warm_start:
        begins: dict[str, Path] = {"vision": last.run, "memory": last.run, "controller": controllers[0].folder}
        if of_first["vision"].vision in of_first["memory"].model.CONTINUES and not config.keep_vision:
            begins["memory"] = Path()  # it begins with what V has just learnt
        asked |= {stage: asked[stage] | {"--start-from": place} for stage, place in begins.items()}
        others = [part.config.folder for part in before if part.stage == "controller"][:-1]
        if config.from_best and others:
            asked["controller"]["--or-from"] = others
    places = [one for one in shared if one.known not in told] + _typed(told)
    parts = _round(places, owned | {stage: _instead(owned[stage], flags) for stage, flags in asked.items()}, number)
    return [part for part in parts if not (config.keep_vision and part.stage == "vision")]


def _shortened(config: RunConfig, name: str, whole: int) -> dict[str, object]:
    """How long a stage of a further round learns, if not as long as the first one's."""
    return {} if config.share == 1 else {flag(name): max(1, round(config.share * whole))}


def _instead(given: list[Given], asked: Mapping[str, object]) -> list[Given]:
    """The flags of a stage, with those that are `asked` in place of what was typed; an empty path: without."""
    flags = {name: value for name, value in asked.items() if value != Path()}
    return [one for one in given if one.known not in asked] + _typed(flags)


def _typed(values: Mapping[str, object]) -> list[Given]:
    """Flags of a stage, and how they would have been typed here."""
    several = {known: value if isinstance(value, list) else [value] for known, value in values.items()}
    return [Given(TYPED.get(known, known), known, [str(one) for one in given]) for known, given in several.items()]


def _groups(argv: list[str]) -> list[list[str]]:
    """Each flag and what follows it."""
    groups: list[list[str]] = []
    for word in argv:
        if word.startswith("--") or word == "-h":
            groups.append(["--help" if word == "-h" else word])
        else:
            groups[-1].append(word)
    return groups


def _known(words: list[str]) -> Given:
    name, equals, value = words[0].partition("=")
    return Given(name, name, [*([value] if equals else []), *words[1:]])


def _words(given: list[Given]) -> list[str]:
    return [word for one in given for word in one.words]


def _owned(given: list[Given]) -> dict[str, list[Given]]:
    """Which stage each flag belongs to."""
    named = {stage: [one for one in given if _named(one.typed, stage)] for stage in STAGES}
    plain = [one for one in given if "." not in one.typed]
    asked = typed_flags([word for one in given for word in [one.known.replace(f"{_stage(one)}.", "", 1), *one.values]])
    types = {stage: types_of(kind, model_asked_for(kind, asked)[1]) for stage, kind in STAGES.items()}
    for one in given:
        stage = _stage(one)
        if stage and stage not in STAGES:
            raise UserError(
                f"{shortened(one.typed)}: there is no stage {shortened(stage)}; {nearest(stage, [*STAGES])}"
            )
    owned = {stage: [_without(one, stage, types[stage]) for one in named[stage]] for stage in STAGES}
    for one in plain:
        owned[_owner(one, types)].append(one)
    return owned


def _stage(one: Given) -> str:
    """The stage that a flag names; "" if it names none."""
    name = one.typed.removeprefix("--")
    return name.partition(".")[0] if "." in name else ""


def _named(typed: str, stage: str) -> bool:
    return typed.startswith(f"--{stage}.")


def _without(one: Given, stage: str, types: dict[str, Any]) -> Given:
    """--vision.steps as stage 2 knows it: --steps."""
    known = f"--{one.typed.removeprefix(f'--{stage}.')}"
    if positive(known) in SHARED:
        raise UserError(f"{one.typed}: {known} holds for all stages; give it without {stage}.")
    if known == "--run" or (positive(known) not in types and not _of_another_model(known, stage)):
        names = [f"--{stage}.{name[2:]}" for name in types if name not in SHARED | {"--run"}]
        raise UserError(f"{shortened(one.typed)} is not a flag of {stage}; {nearest(one.typed, names)}")
    return one._replace(known=known)


def _owner(one: Given, types: dict[str, dict[str, Any]]) -> str:
    """The only stage that has such a flag."""
    name = positive(one.known)
    owners = [stage for stage in STAGES if name in types[stage]]
    if name in CHAINED:
        owners = ["controller"]
    owners = owners or [stage for stage in STAGES if _of_another_model(name, stage)]
    if len(owners) > 1:
        choice = " or ".join(f"--{stage}.{one.typed[2:]}" for stage in owners)
        raise UserError(f"{one.typed} is a flag of several stages; say whose: {choice}")
    if not owners:
        known = sorted(SHARED | {flag for stage in STAGES for flag in types[stage]} - {"--run"})
        raise UserError(f"{shortened(one.typed)} is not a flag of this command; {nearest(name, known)}")
    return owners[0]


def _of_another_model(name: str, stage: str) -> bool:
    """Whether a V, M or learner that was not asked for has such a flag; that stage tells of it."""
    trains = getattr(STAGES[stage], "MODEL", "")
    others = [other.settings for other in OURS.values() if other.stage == trains]
    return any(positive(name) in map(flag, names_of(other)) for other in others)


def _part(stage: str, shared: list[Given], own: list[Given], more: tuple[str, ...] = ()) -> Part:
    """What a stage's own command makes of its flags, and of those that hold for all."""
    kind = STAGES[stage]
    types = types_of(kind, None)
    all_of_it = [one for one in shared if positive(one.known) in types and one.known not in more]
    words = [*more, *_words(all_of_it), *_words(own)]
    try:
        return Part(stage, tuple(words), parse(kind, words))
    except UserError as error:
        raise UserError(_as_typed(str(error), own)) from error


def _evaluation(controller: ControllerConfig, shared: list[Given], own: list[Given]) -> Part:
    """The evaluation of a controller: in dreams too, if it evolved there and nobody asks for planning beside it."""
    used = plugins.typed()  # what --env or --vision named, among them: a controller's files name that again
    more = ["--run", str(controller.folder), *(["--plugin", *used] if used else [])]
    planned = any(one.known == "--plan" and one.values != ["none"] for one in own)  # which is scored really, and alone
    if controller.dream and not planned and not any(positive(one.known) == "--dream" for one in own):
        more += ["--dream"]
    return _part("evaluate", shared, own, tuple(more))


def _as_typed(message: str, own: list[Given]) -> str:
    """A stage's message, with the stage's name in front of the flags that were typed so."""
    for one in own:
        if one.typed != one.known:
            message = re.sub(rf"(?<![\w.-]){re.escape(one.known)}(?![\w.-])", one.typed, message)
    return message


def _refuse_worlds(parts: list[Part]) -> None:
    """Raises UserError if C is to learn in dropout worlds of an M that is not taught to stand them."""
    memory, controller = (next(p.config for p in parts if p.stage == stage) for stage in ("memory", "controller"))
    if controller.dream_dropout and not getattr(memory.model, "dropout", 0.0):
        hidden = f"{controller.dream_dropout:g}"
        raise UserError(f"--dream-dropout {hidden}: M is trained without --dropout; give --dropout, too (0.05, say)")


def _refuse_unpaid_dreams(parts: list[Part]) -> None:
    """Raises UserError if a controller is to evolve, or planning to look ahead, in dreams of an M that is not taught
    what they pay."""
    memory, controller, scored = (
        next(p.config for p in parts if p.stage == stage) for stage in ("memory", "controller", "evaluate")
    )
    needing = "--dream" if controller.dream else "--plan" if scored.plan != "none" else ""
    if needing and memory.model.reward == "none":
        raise UserError(
            "--reward is none, so M's dreams will pay nothing, and nothing can be learnt in them; give --reward head "
            f"or alive, or leave out {needing}"
        )
