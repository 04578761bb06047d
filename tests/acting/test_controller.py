from itertools import pairwise

import numpy as np
import pytest
import torch

from worldmodels.acting.controller import Controller


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ((288, 3), 867),  # CarRacing: z, h
        ((1088, 1, 0, False), 1088),  # Doom: z, c, h
        ((32, 3), 99),  # z alone
        ((32, 3, 40), 1443),  # z and a hidden layer of 40
    ],
)
def test_counts_are_the_papers(arguments: tuple, count: int) -> None:
    assert Controller(*arguments).num_params == count


@pytest.mark.parametrize("arguments", [(5, 3), (5, 1, 0, False), (5, 3, 4), (5, 1, 4)])
def test_each_row_acts_with_its_own_numbers(arguments: tuple) -> None:
    controller, rng = Controller(*arguments), np.random.default_rng(0)
    params = rng.normal(size=(7, controller.num_params)).astype(np.float32)
    feat = rng.normal(size=(7, 5)).astype(np.float32)
    actions = controller.act(torch.from_numpy(params), torch.from_numpy(feat)).numpy()
    sizes = [5, *arguments[2:3], arguments[1]] if len(arguments) > 2 and arguments[2] else [5, arguments[1]]
    for row in range(7):
        x, rest = feat[row], params[row]
        for inputs, outputs in pairwise(sizes):
            bias, rest = (rest[:outputs], rest[outputs:]) if controller.bias else (np.zeros(outputs), rest)
            weight, rest = rest[: inputs * outputs].reshape(inputs, outputs), rest[inputs * outputs :]
            x = np.tanh(bias + x @ weight)
        assert len(rest) == 0
        assert np.allclose(actions[row], x, atol=1e-6)
    assert (np.abs(actions) <= 1).all()
