import math

import pytest
import torch

from worldmodels.models.fast import lstm
from worldmodels.models.mdnrnn import MDNRNN, Given
from worldmodels.models.mixture import nll
from worldmodels.models.worlds import drawn_members, hiding, shown
from worldmodels.settings.models import MDNRNNSettings


def double(*shape: int, seed: int = 0, grad: bool = True) -> torch.Tensor:
    values = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return values.requires_grad_(grad)


@pytest.mark.parametrize(
    ("settings", "code_size", "action_size", "count"),
    [
        (MDNRNNSettings(hidden_size=256, reward="none", termination=False), 32, 3, 422_368),
        (MDNRNNSettings(hidden_size=512, restart_input=True, reward="alive"), 64, 1, 1_678_785),
    ],
)
def test_parameter_counts_are_the_papers(
    settings: MDNRNNSettings, code_size: int, action_size: int, count: int
) -> None:
    assert sum(p.numel() for p in MDNRNN(settings, code_size, action_size).parameters()) == count


def test_lstm_gradients() -> None:
    keep = (torch.rand(5, 3, 1, generator=torch.Generator().manual_seed(1)) > 0.3).double()
    values = (double(5, 3, 16), double(16, 4, seed=1), keep, double(3, 4, seed=2), double(3, 4, seed=3))
    assert torch.autograd.gradcheck(lambda *x: lstm.sequence(*x), values)
    world = hiding(0.4, torch.rand(3, 4, generator=torch.Generator().manual_seed(2)).double())
    assert torch.autograd.gradcheck(lambda *x: lstm.sequence(*x, world), values)


def test_lstm_is_torchs_where_nothing_restarts() -> None:
    reference = torch.nn.LSTM(2, 4, dtype=torch.float64)
    x, h, c = double(6, 3, 2), double(3, 4, seed=1), double(3, 4, seed=2)
    inputs = x @ reference.weight_ih_l0.T + reference.bias_ih_l0 + reference.bias_hh_l0
    hs, last_h, last_c = lstm.sequence(inputs, reference.weight_hh_l0, torch.ones(6, 3, 1), h, c)
    expected, (expected_h, expected_c) = reference(x, (h[None], c[None]))
    assert torch.allclose(hs, expected) and torch.allclose(last_h, expected_h[0])
    assert torch.allclose(last_c, expected_c[0])


def test_lstm_forgets_where_an_episode_begins() -> None:
    inputs, weight = double(6, 1, 16), double(16, 4, seed=1)
    keep = torch.ones(6, 1, 1)
    keep[3] = 0
    zero = torch.zeros(1, 4, dtype=torch.float64)
    hs, _, _ = lstm.sequence(inputs, weight, keep, double(1, 4, seed=5), double(1, 4, seed=6))
    alone, _, _ = lstm.sequence(inputs[3:], weight, torch.ones(3, 1, 1), zero, zero)
    assert torch.allclose(hs[3:], alone)


def batch(rows: int, steps: int, code: int, action: int, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    flags = torch.zeros(rows, steps)
    flags[:, 0] = 1
    return {
        "embed": torch.randn(rows, steps, 2 * code, generator=g),
        "next_embed": torch.randn(rows, steps, 2 * code, generator=g),
        "action": torch.rand(rows, steps, action, generator=g) * 2 - 1,
        "reward": torch.randn(rows, steps, generator=g),
        "terminated": torch.zeros(rows, steps),
        "is_first": flags,
    }


def test_what_is_hidden_is_a_share_and_the_rest_makes_up_for_it() -> None:
    found = hiding(0.2, torch.rand(100_000, generator=torch.Generator().manual_seed(0)))
    assert set(found.tolist()) == {0.0, 1.25} and float(found.mean()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("restart_input", [False, True])
def test_training_unrolls_as_acting_steps(restart_input: bool) -> None:
    """The memory that training has after step t is the one that acting has: the line of time is the same."""
    memory = MDNRNN(MDNRNNSettings(hidden_size=8, restart_input=restart_input), 4, 2)
    data = batch(3, 12, 4, 2)
    data["is_first"][1, 5] = data["is_first"][2, 9] = 1
    z = data["embed"][..., :4]
    zero = torch.zeros(3, 8)
    world = hiding(0.3, torch.rand(3, 12))
    for within in (None, world):
        hs, last_h, last_c = memory._unroll(z, Given(data["action"], data["is_first"], zero, zero, within))
        h, c = zero, zero
        for t in range(12):
            first = data["is_first"][:, t : t + 1]
            seen, before = shown(z[:, t], h * (1 - first), within)
            h, c = memory.step(seen, data["action"][:, t], first, before, c * (1 - first))
            assert torch.allclose(hs[t], h, atol=1e-6)
        assert torch.allclose(last_h, h, atol=1e-6) and torch.allclose(last_c, c, atol=1e-6)


def test_carrying_the_state_equals_one_long_sequence() -> None:
    memory = MDNRNN(MDNRNNSettings(hidden_size=8), 4, 2)
    data = batch(3, 12, 4, 2)
    zero = torch.zeros(3, 8)
    whole, _, _ = memory._unroll(data["embed"][..., :4], Given(data["action"], data["is_first"], zero, zero))
    first = {k: v[:, :7] for k, v in data.items()}
    second = {k: v[:, 7:] for k, v in data.items()}
    a, h, c = memory._unroll(first["embed"][..., :4], Given(first["action"], first["is_first"], zero, zero))
    b, _, _ = memory._unroll(second["embed"][..., :4], Given(second["action"], second["is_first"], h, c))
    assert torch.allclose(whole, torch.cat([a, b]), atol=1e-6)


def test_steps_that_terminate_count_for_the_heads_only() -> None:
    memory = MDNRNN(MDNRNNSettings(hidden_size=8), 4, 2)
    data = batch(2, 6, 4, 2)
    data["terminated"][:, -1] = 1
    generator = torch.Generator
    _, before, _ = memory.loss(data, {}, generator().manual_seed(0))
    data["next_embed"][:, -1, :4] += 100  # what is "seen" after the end
    _, after, _ = memory.loss(data, {}, generator().manual_seed(0))
    assert before["nll"] == after["nll"]
    data["next_embed"][:, -2, :4] += 100
    _, changed, _ = memory.loss(data, {}, generator().manual_seed(0))
    assert changed["nll"] > after["nll"] + 1


def test_termination_loss_weighs_last_steps() -> None:
    memory = MDNRNN(MDNRNNSettings(hidden_size=8, termination_weight=10.0), 4, 2)
    data = batch(2, 6, 4, 2)
    data["terminated"][0, -1] = 1
    _, metrics, _ = memory.loss(data, {}, torch.Generator().manual_seed(0))
    z = (
        data["embed"][..., :4]
        + (data["embed"][..., 4:] / 2).exp() * torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))[:, :-1]
    )
    hs, _, _ = memory._unroll(z, Given(data["action"], data["is_first"], torch.zeros(2, 8), torch.zeros(2, 8)))
    p = torch.sigmoid(memory.predict(hs).end.double())
    ended = data["terminated"].double().T
    expected = -(10 * ended * p.log() + (1 - ended) * (1 - p).log()).mean()
    assert float(metrics["termination"]) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_it_learns_what_is_predictable_and_reaches_the_entropy_of_what_is_not() -> None:
    """A code that follows the action, and noise beside it whose entropy is 1.419 nats (CLASSIC 3.3)."""
    torch.manual_seed(0)
    memory, generator = MDNRNN(MDNRNNSettings(hidden_size=16, reward="head"), 2, 1), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(memory.parameters(), 1e-2)
    for step in range(150):
        action = torch.rand(16, 20, 1, generator=generator) * 2 - 1
        known = torch.cat([action, torch.full_like(action, -4.0)], -1)  # mu, logvar
        logvar = torch.cat([torch.full_like(action, -4.0), torch.zeros_like(action)], -1)
        data = batch(16, 20, 2, 1, step) | {
            "action": action, "reward": action[..., 0],
            "next_embed": torch.cat([known[..., :1], torch.zeros_like(action), logvar], -1),
        }  # fmt: skip
        loss, metrics, _ = memory.loss(data, {}, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    ideal = ((entropy - 2.0) + entropy) / 2  # log sigma of the first is -2
    assert ideal < float(metrics["nll"]) < ideal + 0.35
    assert float(metrics["reward"]) < 0.1


def self_fed(share: float, passes: int) -> MDNRNN:
    torch.manual_seed(0)
    settings = MDNRNNSettings(hidden_size=16, reward="alive", self_fed=share, passes=passes)
    return MDNRNN(settings, 4, 1).train()


def test_a_share_of_the_codes_shown_in_training_are_its_own() -> None:
    module = self_fed(0.5, 1)
    z, action, first = torch.randn(64, 40, 4), torch.rand(64, 40, 1), torch.zeros(64, 40)
    first[:, 20] = 1
    zero = torch.zeros(64, 16)
    shown = module._partly_own(z, Given(action, first, zero, zero), torch.Generator().manual_seed(0))
    own = (shown != z).any(-1)
    assert float(own.float().mean()) == pytest.approx(0.5 * 38 / 40, abs=0.03)
    assert not own[:, 0].any() and not own[:, 20].any()  # an episode's first, and what the batch before knows
    assert torch.equal(shown[~own], z[~own])


def test_own_codes_are_drawn_from_what_was_expected_there() -> None:
    module = self_fed(1.0, 1)
    z, action, first = torch.randn(256, 3, 4), torch.rand(256, 3, 1), torch.zeros(256, 3)
    zero = torch.zeros(256, 16)
    shown = module._partly_own(z, Given(action, first, zero, zero), torch.Generator().manual_seed(0))
    hs, _, _ = module._unroll(z, Given(action, first, zero, zero))
    expected = nll(module.predict(hs[:2]).code, shown[:, 1:].transpose(0, 1), 5)
    shuffled = nll(module.predict(hs[:2]).code, shown[torch.randperm(256), 1:].transpose(0, 1) + 2, 5)
    entropy_of_a_normal = 0.5 * math.log(2 * math.pi * math.e)
    assert float(expected.mean()) == pytest.approx(entropy_of_a_normal, abs=0.35)  # new weights: nearly one normal
    assert float(shuffled.mean()) > float(expected.mean()) + 1


def test_each_pass_goes_one_step_further_on_its_own() -> None:
    z, action, first = torch.randn(8, 8, 4), torch.rand(8, 8, 1), torch.zeros(8, 8)
    changed = z.clone()
    changed[:, 2] += 1
    zero = torch.zeros(8, 16)
    for passes in (1, 2, 3):
        one, other = (
            self_fed(1.0, passes)._partly_own(codes, Given(action, first, zero, zero), torch.Generator().manual_seed(0))
            for codes in (z, changed)
        )
        differs = [not torch.equal(one[:, t], other[:, t]) for t in range(8)]
        assert differs.index(True) == 2 + passes  # what came at step 2 is told for so long


def test_each_sequence_in_training_has_a_part_hidden_and_nothing_else_has() -> None:
    torch.manual_seed(0)
    memory = MDNRNN(MDNRNNSettings(hidden_size=16, dropout=0.3, self_fed=0.5), 4, 2)
    whole = MDNRNN(MDNRNNSettings(hidden_size=16, self_fed=0.5), 4, 2)
    whole.load_state_dict(memory.state_dict())
    data = batch(8, 12, 4, 2)

    def loss(module: MDNRNN, seed: int = 0) -> float:
        return float(module.loss(data, {}, torch.Generator().manual_seed(seed))[0].detach())

    assert loss(memory.eval()) == loss(whole.eval())
    worlds = []
    unroll = memory._unroll
    memory._unroll = lambda z, given: worlds.append(given.world) or unroll(z, given)  # type: ignore[method-assign]
    loss(memory.train())
    assert len(worlds) == 4 and all(world is worlds[0] for world in worlds)  # own codes are drawn in the same worlds
    assert float((worlds[0] == 0).float().mean()) == pytest.approx(0.3, abs=0.1)
    assert (worlds[0][1:] != worlds[0][:1]).any(1).all()


def test_each_sequence_teaches_one_member_and_all_teach_their_memory() -> None:
    torch.manual_seed(0)
    memory = MDNRNN(MDNRNNSettings(hidden_size=16, members=3, self_fed=0.5), 4, 2)
    data = batch(2, 12, 4, 2)  # fewer sequences than members
    seed = next(s for s in range(99) if len(taught(2, 3, s)) == 1)
    memory.train().loss(data, {}, torch.Generator().manual_seed(seed))[0].backward()
    (only,) = taught(2, 3, seed)
    for number, head in enumerate(memory.heads):
        assert head.weight.grad is not None and bool(head.weight.grad.any()) == (number == only)
    assert memory.cell.weight.grad is not None and memory.cell.weight.grad.any()


def taught(rows: int, members: int, seed: int) -> set[float]:
    """The members that a batch teaches; what is drawn before them is the noise of the codes."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn(rows, 13, 4, generator=generator)
    return set(drawn_members(members, rows, generator, torch.device("cpu"))["member"].flatten().tolist())


def test_a_first_member_alone_is_as_if_there_were_no_others() -> None:
    many = MDNRNN(MDNRNNSettings(hidden_size=16, members=3), 4, 2)
    one = MDNRNN(MDNRNNSettings(hidden_size=16), 4, 2)
    one.load_state_dict({name: value for name, value in many.state_dict().items() if "other" not in name})
    h = torch.randn(5, 7, 16)
    assert torch.equal(many.predict(h).code, one.predict(h).code)
    whose = torch.tensor([[0.0], [2.0]] * 3 + [[1.0]])
    for learns in (True, False):
        with torch.set_grad_enabled(learns):
            found = many.predict(h, whose)
        for row, number in enumerate(whose.flatten().int().tolist()):
            alone = many.heads[number](h)[:, row]
            assert found.end is not None and found.reward is not None
            assert torch.allclose(found.code[:, row], alone[..., :60], atol=1e-5)
            assert torch.allclose(found.end[:, row], alone[..., 60], atol=1e-5)
            assert torch.allclose(found.reward[:, row], alone[..., 61], atol=1e-5)


def test_only_training_is_self_fed() -> None:
    module = self_fed(0.9, 2)
    plain = self_fed(0.0, 2)
    plain.load_state_dict(module.state_dict())
    given = batch(4, 12, 4, 1)
    results = [m.eval().loss(given, {}, torch.Generator().manual_seed(1))[0] for m in (module, plain)]
    assert torch.equal(*results)
    module.train()
    assert not torch.equal(module.loss(given, {}, torch.Generator().manual_seed(1))[0], results[0])
