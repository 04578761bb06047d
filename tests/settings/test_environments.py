import json
import subprocess
import sys
from typing import Any

import gymnasium
import pytest

from worldmodels.acting.policies import baselines
from worldmodels.core.errors import UserError
from worldmodels.settings.command_line import parse
from worldmodels.settings.environments import OTHER, Environment, record_of, records, register
from worldmodels.settings.envspec import EnvSpec
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig


def test_each_name_has_its_record() -> None:
    assert [record.name for record in records()] == ["doom", "carracing", "dmc:", "maniskill:"]
    assert record_of("doom").tau == 1.15 and record_of("dmc:walker-walk").action_repeat == 2
    assert record_of("CarRacing-v3") is record_of("ALE/Pong-v5") is OTHER and OTHER.tau == 1
    assert not OTHER.tells_truth and not OTHER.distractors
    assert baselines("CarRacing-v3") == {"no action": "still", "random": "spicy"}


def test_doom_keeps_its_numbers_though_records_say_only_what_differs() -> None:
    for preset in ("tiny", "laptop", "paper"):
        flags = ["--env", "doom", "--preset", preset]
        memory, controller = parse(MemoryConfig, flags), parse(ControllerConfig, flags)
        assert memory.model.termination and memory.model.reward == "alive" and memory.learning_rate == 1e-3
        assert controller.final_episodes == 100 and controller.max_steps == 2100
        assert parse(CollectConfig, flags).max_steps == 2100


def test_what_a_record_says_under_all_holds_for_every_preset() -> None:
    register(Environment(name="Mine-v0", presets={"collect": {"all": {"max_steps": 70}, "tiny": {"episodes": 5}}}))
    flags = ["--env", "Mine-v0", "--preset"]
    assert [parse(CollectConfig, [*flags, preset]).max_steps for preset in ("tiny", "laptop", "paper")] == [70] * 3
    assert parse(CollectConfig, [*flags, "tiny"]).episodes == 5
    for preset in ("tiny", "laptop", "paper"):  # of what it does not speak, it has what any environment has
        mine, other = (parse(MemoryConfig, ["--env", env, "--preset", preset]) for env in ("Mine-v0", "Other-v0"))
        assert mine.steps == other.steps and mine.model == other.model


def test_what_a_record_says_becomes_flags() -> None:
    register(Environment(name="Slow-v0", tau=0.5, action_repeat=4, random_policy="brownian"))
    config = parse(ControllerConfig, ["--env", "Slow-v0", "--dream"])
    assert config.tau == (0.5,) and config.action_repeat == 4 and config.max_steps == 1000
    assert parse(ControllerConfig, ["--env", "Slow-v0", "--dream", "--action-repeat", "2"]).max_steps == 2000
    assert EnvSpec("Slow-v0", 4).slug == "slow-v0" and EnvSpec("Slow-v0", 2).slug == "slow-v0-x2"
    assert baselines("Slow-v0") == {"no action": "still", "random": "brownian"}


def test_a_family_shares_its_record() -> None:
    register(Environment(name="robots:", make="my_package:Robot", tau=0.7))
    assert record_of("robots:arm").tau == record_of("robots:leg").tau == 0.7
    assert parse(ControllerConfig, ["--env", "robots:arm", "--dream"]).tau == (0.7,)


def mistake(**changes: Any) -> None:
    register(Environment(**{"name": "Wrong-v0"} | changes))
    parse(CollectConfig, ["--env", "Wrong-v0"])
    baselines("Wrong-v0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "doom"}, "there are two records of the environment doom"),
        ({"name": "robots:"}, "the record of robots: is a family's and must say what makes one"),
        ({"presets": {"colect": {}}}, r"record of Wrong-v0 has presets of stage colect; did you mean collect\?"),
        ({"keys": {"jump": (1.0,)}}, "record of Wrong-v0 has the key jump; .*known: down, left, right, up"),
        ({"presets": {"collect": {"big": {}}}}, "record of Wrong-v0 has presets of preset big; .*known: all, laptop"),
        ({"presets": {"collect": {"all": {"max_step": 9}}}}, r"sets max_step for collect; did you mean max_steps\?"),
        ({"baselines": {"random": "unifrom"}}, r"record of --env Wrong-v0 names the policy unifrom; .*uniform\?"),
    ],
)
def test_a_mistake_in_a_record_is_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        mistake(**changes)
    assert "\n" not in str(error.value)


def test_registering_the_same_again_does_no_harm() -> None:
    before = len(records())
    for _ in range(2):
        register(Environment(name="Same-v0", presets={"vision": {"all": {"code_size": 9}}}))
    assert len(records()) == before + 1


def test_records_are_light() -> None:
    """--help and mistakes are answered before any of these is loaded."""
    code = "import json, sys, worldmodels.settings.environments; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert not {"torch", "gymnasium", "vizdoom", "dm_control", "numpy"} & set(loaded)


def test_the_name_of_a_family_hides_no_module() -> None:
    register(Environment(name="small:", make=lambda rest, **given: gymnasium.make(rest)))
    assert record_of("small:CartPole-v1").name == "small:"
    with pytest.raises(
        UserError, match=r"small:evil_module:X-v0, which is code that is not ours|add --plugin evil_module"
    ):
        record_of("small:evil_module:X-v0")
