import numpy as np
import pytest
import torch

from worldmodels.models.bisimulation import DISCOUNT, MENDED_DISCOUNT, loss, reconstruction


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-3)


def by_hand(x, y, x_next, y_next, reward, terminated, ends, form: str, low: float, high: float) -> float:
    """Pair by pair, in float64."""
    total, pairs = 0.0, 0
    for i in range(len(x)):
        for j in range(len(x)):
            distance = 1 - unit(x)[i] @ unit(y)[j]
            if form == "paper":
                wanted = abs(reward[i] - reward[j]) + DISCOUNT * (1 - unit(x_next)[i] @ unit(y_next)[j])
            else:
                if any(ends[k] and not terminated[k] for k in (i, j)):  # truncated: nothing is known of what follows
                    continue
                a, b = (np.clip((r - low) / (high - low), 0, 1) for r in (reward[i], reward[j]))
                now = max(abs(a - b), abs(terminated[i] - terminated[j]))
                after_i = x[i] if terminated[i] else x_next[i]
                after_j = y[j] if terminated[j] else y_next[j]
                wanted = (1 - MENDED_DISCOUNT) * now + MENDED_DISCOUNT * (1 - unit(after_i) @ unit(after_j))
            error = abs(distance - wanted)
            total, pairs = total + (0.5 * error**2 if error < 1 else error - 0.5), pairs + 1
    return total / pairs


@pytest.mark.parametrize("form", ["paper", "mended"])
def test_against_pairs_in_float64(form: str) -> None:
    rng = np.random.default_rng(0)
    x, y, x_next, y_next = rng.normal(size=(4, 7, 5))
    reward, terminated = rng.normal(size=7) * 3, np.array([0, 1, 0, 0, 1, 0, 0.0])
    ends = np.array([0, 1, 1, 0, 1, 0, 0.0])
    tensors = [torch.tensor(v, dtype=torch.float32) for v in (x, y, x_next, y_next, reward, terminated, ends)]
    with torch.autocast("cpu", torch.bfloat16):  # which must not reach distances
        value = float(loss(*tensors, form=form, usual_rewards=(-4.0, 4.0)))
    assert value == pytest.approx(by_hand(x, y, x_next, y_next, reward, terminated, ends, form, -4.0, 4.0), rel=1e-4)


def test_a_time_limit_asks_for_nothing() -> None:
    x, y, x_next, y_next = torch.randn(4, 6, 5)
    reward, none = torch.rand(6), torch.zeros(6)
    cut = none.clone()
    cut[2] = 1
    kept = [0, 1, 3, 4, 5]
    without = loss(*(v[kept] for v in (x, y, x_next, y_next, reward, none, none)), "mended")
    assert torch.allclose(loss(x, y, x_next, y_next, reward, none, cut, "mended"), without)
    assert float(loss(x, y, x_next, y_next, reward, none, torch.ones(6), "mended")) == 0  # and not 0 / 0


def test_only_the_masked_branch_gets_a_gradient() -> None:
    x, y, x_next, y_next = (torch.randn(6, 4, requires_grad=True) for _ in range(4))
    loss(x, y, x_next, y_next, torch.rand(6), torch.zeros(6), torch.zeros(6), "paper").backward()
    assert x.grad is not None and x.grad.any() and y.grad is None and x_next.grad is None and y_next.grad is None


def distances_after(form: str, reward: torch.Tensor, terminated: torch.Tensor) -> torch.Tensor:
    """Descends the loss on free vectors that are their own targets and stand still in time."""
    torch.manual_seed(0)
    x = torch.randn(len(reward), 8, requires_grad=True)
    optimizer = torch.optim.Adam([x], 0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        loss(x, x.detach(), x.detach(), x.detach(), reward, terminated, terminated, form, (0.0, 1.0)).backward()
        optimizer.step()
    with torch.no_grad():
        y = torch.nn.functional.normalize(x, dim=-1)
        return 1 - y @ y.T


def test_alive_rewards_collapse_the_papers_form_but_not_terminals_in_the_mended_one() -> None:
    """Doom's trap (HRSSM 3.1): 1 per step, for ever; only some states are terminal."""
    reward, terminated = torch.ones(8), torch.tensor([0.0, 1.0] * 4)
    assert distances_after("paper", reward, terminated).max() < 0.05
    mended = distances_after("mended", reward, terminated)
    assert mended[0, 1] > 0.8  # they differ in every step to come, and so as much as states can
    assert mended[0, 2] < 0.02 and mended[1, 3] < 0.02


def test_the_mended_forms_fixed_point_is_attained_by_unscaled_and_negative_rewards() -> None:
    x = torch.eye(4)  # four states at distance 1 of each other
    reward = torch.tensor([-100.0, 3.2, -100.0, 3.2])
    at = loss(x, x, x, x, reward, torch.zeros(4), torch.zeros(4), "paper")
    assert float(at) > 10  # a hundred times what a cosine can be
    assert float(loss(x, x, x, x, reward, torch.zeros(4), torch.zeros(4), "mended", (-100.0, 3.2))) < 0.5


def test_reconstruction_is_two_minus_two_cosines() -> None:
    a, b = torch.randn(5, 3, 4), torch.randn(5, 3, 4, requires_grad=True)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1)
    assert float(reconstruction(a, b).detach()) == pytest.approx(float((2 - 2 * cosine).mean().detach()), rel=1e-5)
    assert not reconstruction(a, b).requires_grad  # the target gets none


def test_returns_are_compared_where_both_are_known_and_nothing_is_asked_where_none_is() -> None:
    torch.manual_seed(0)
    online, target, online_next, target_next = torch.randn(4, 6, 5)
    zeros = torch.zeros(6)
    ahead = torch.randn(6, 3)
    ahead[0, 1:] = ahead[1, :2] = torch.nan  # the first two have no number in common
    ahead[2] = torch.nan

    def asked(of: torch.Tensor) -> torch.Tensor:
        features = online.clone().requires_grad_()
        loss(features, target, online_next, target_next, zeros, zeros, zeros, "mended", ahead=of).backward()
        assert features.grad is not None
        return features.grad

    assert not asked(ahead)[2].any() and asked(ahead).isfinite().all() and asked(ahead)[0].any()

    def of_two(rows: list[int]) -> float:
        features = (online[:2], target[:2], online_next[:2], target_next[:2])
        return float(loss(*features, zeros[:2], zeros[:2], zeros[:2], "mended", ahead=100 * ahead[rows]))

    assert of_two([0, 0]) != of_two([0, 3])
