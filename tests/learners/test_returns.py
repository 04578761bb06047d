import numpy as np
import pytest
import torch

from worldmodels.learners.returns import Scale, lambda_returns, weights


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_lambda_returns_are_the_mean_of_n_step_returns(lambda_: float) -> None:
    """By their definition: (1 - l) sum of l^(n-1) G^n, and the rest on the longest; in float64."""
    rng = np.random.default_rng(0)
    steps = 6
    reward, discount, value = rng.normal(size=(3, steps, 4))
    discount = np.abs(discount).clip(0, 1)
    found = lambda_returns(*map(torch.from_numpy, (reward, discount, value)), lambda_).numpy()
    for t in range(steps):
        expected = np.zeros(4)
        for n in range(1, steps - t + 1):
            gain = np.zeros(4)
            worth = np.ones(4)
            for k in range(n):
                gain = gain + worth * reward[t + k]
                worth = worth * discount[t + k]
            share = lambda_ ** (n - 1) * (1 if n == steps - t else 1 - lambda_)
            expected += share * (gain + worth * value[t + n - 1])
        assert found[t] == pytest.approx(expected, rel=1e-12)


def test_weights_are_products_of_earlier_discounts_and_constants() -> None:
    discount = torch.tensor([[0.5], [0.25], [0.1]], dtype=torch.float64, requires_grad=True)
    found = weights(discount)
    assert found.ravel().tolist() == [1.0, 0.5, 0.125] and not found.requires_grad


def test_the_scale_follows_two_quantiles_from_zero_and_is_never_below_one() -> None:
    rng = np.random.default_rng(1)
    scale = Scale()
    expected = np.zeros(2)
    for size in (1.0, 100.0, 5000.0):
        returns = rng.normal(size=(7, 30)) * size
        expected = 0.01 * np.quantile(returns, [0.05, 0.95]) + 0.99 * expected
        found = float(scale.update(torch.from_numpy(returns)))
        assert scale.quantiles.tolist() == pytest.approx(expected.tolist(), rel=1e-5)
        assert found == pytest.approx(max(1.0, expected[1] - expected[0]), rel=1e-5)
    assert found > 1
