import pytest
import torch

from worldmodels.acting.controller import Controller
from worldmodels.dreams.dream import Dream
from worldmodels.dreams.play import Player, by_controller, by_itself
from worldmodels.models.base import State

SEEDS = list(range(12))


def by_hand(model, seed: int, max_steps: int) -> tuple[float, int]:
    """One dream of zeros, the obvious way."""
    dream = Dream(model)
    dream.begin([seed])
    total, steps, terminated = 0.0, 0, torch.zeros(1)
    while steps < max_steps and not terminated[0]:
        reward, terminated = dream.step(torch.zeros(1, 1))
        total += float(reward[0])
        steps += 1
    return total, steps


@pytest.mark.parametrize("lean", [False, True])
def test_every_row_is_played_to_its_own_end(model, lean: bool) -> None:
    def still(step: int) -> torch.Tensor:
        return torch.zeros(len(SEEDS), 1)

    lives = Player(Dream(model), by_itself, 40, lean).play(SEEDS, still)
    assert list(zip(lives.returns.tolist(), lives.lengths.tolist(), strict=True)) == [
        by_hand(model, seed, 40) for seed in SEEDS
    ]
    assert len(lives.lengths.unique()) > 3  # so some rows did leave before others


def test_a_step_brings_every_row_its_own_action_though_others_have_left(model) -> None:
    def told(step: int) -> torch.Tensor:
        return torch.sin(torch.arange(len(SEEDS))[:, None] * 7.0 + step)

    all_stay, some_leave = (Player(Dream(model), by_itself, 40, lean).play(SEEDS, told) for lean in (False, True))
    assert torch.equal(all_stay.lengths, some_leave.lengths) and len(all_stay.lengths.unique()) > 3


def test_who_watches_sees_every_step_and_no_more(model) -> None:
    inputs = model.default_inputs
    controller = Controller(sum(model.feat_sizes[part] for part in inputs), 1)
    seen: list[tuple[int, State]] = []
    player = Player(Dream(model), by_controller(model, controller, inputs), 40)
    lives = player.play([7], torch.zeros(1, controller.num_params), watch=lambda *moment: seen.append(moment))
    assert [step for step, _ in seen] == list(range(int(lives.lengths[0])))
    assert by_hand(model, 7, 40) == (float(lives.returns[0]), int(lives.lengths[0]))
