import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import World
from worldmodels.core.errors import UserError
from worldmodels.models import bisimulation, hrssm, masks
from worldmodels.models.hrssm import EMA_RATE, HRSSM, Encoder, Foresight
from worldmodels.settings.models import HRSSMSettings
from worldmodels.settings.stages import VisionConfig
from worldmodels.stages.train_vision import train_vision
from worldmodels.training.run import Run
from worldmodels.training.train import fit

SIZES: dict[str, Any] = {"depth": 4, "code_size": 8, "hidden_size": 12, "groups": 3, "classes": 4, "units": 16}


def make(**changes: Any) -> HRSSM:
    torch.manual_seed(0)
    return HRSSM(HRSSMSettings(**(SIZES | changes)), 2)


def batch(rows: int = 3, steps: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {
        "obs": torch.randint(0, 256, (rows, steps, 64, 64, 3), dtype=torch.uint8, generator=generator),
        "arrival_action": torch.rand(rows, steps, 2, generator=generator) * 2 - 1,
        "arrival_reward": torch.rand(rows, steps, generator=generator),
        "terminated": torch.zeros(rows, steps),
        "is_first": torch.zeros(rows, steps),
    }
    made["is_first"][:, 0] = 1
    made["is_first"][1, 5] = 1
    return made


def losses(vision: HRSSM, data: dict[str, torch.Tensor] | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    total, metrics, _ = vision.loss(data or batch(), {}, torch.Generator().manual_seed(2))
    return total, metrics


def test_the_authors_encoder() -> None:
    encoder = Encoder(32)
    assert sum(p.numel() for p in encoder.parameters()) == 690_624 and encoder.embed_size == 4096
    assert encoder(torch.zeros(2, 3, 64, 64)).shape == (2, 4096)


def test_codes_have_mean_0_and_variance_1_over_frames_in_training() -> None:
    vision, obs = make(), batch()["obs"]
    code = vision.encode(obs)
    assert code.shape == (3, 8, 8) and code.dtype == torch.float32
    assert torch.allclose(code.mean((0, 1)), torch.zeros(8), atol=1e-5)
    assert torch.allclose(code.var((0, 1), unbiased=False), torch.ones(8), atol=0.05)
    vision.eval()  # afterwards a frame's code does not depend on the frames beside it
    assert torch.allclose(vision.encode(obs)[1, 2], vision.encode(obs[1, 2:3])[0], atol=1e-5)
    assert vision.decode(code).shape == (3, 8, 64, 64, 3) and vision.decode(code).dtype == torch.uint8


def test_the_raw_branch_follows_exactly_and_never_gets_a_gradient() -> None:
    vision = make()
    optimizer = torch.optim.Adam(vision.parameters(), 1e-2)
    before = copy.deepcopy(vision)
    losses(vision)[0].backward()
    optimizer.step()
    vision.after_step()
    for name in ("encoder", "rssm"):
        old, online = getattr(before, f"target_{name}"), getattr(vision, name)
        target = dict(getattr(vision, f"target_{name}").named_parameters())
        assert set(target) == set(dict(online.named_parameters()))
        moved = 0
        for key, value in online.named_parameters():
            assert target[key].grad is None and not target[key].requires_grad
            expected = (1 - EMA_RATE) * dict(old.named_parameters())[key] + EMA_RATE * value
            assert torch.allclose(target[key], expected, atol=1e-7), key
            moved += not torch.equal(target[key], dict(old.named_parameters())[key])
        assert moved > len(target) / 2


def gradients(vision: HRSSM, name: str) -> set[str]:
    """The parameters that one of the latent losses reaches."""
    vision.zero_grad()
    _terms(vision)[name].backward()
    return {key for key, p in vision.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def _terms(vision: HRSSM) -> dict[str, torch.Tensor]:
    """The two latent losses before they are detached for the record."""
    parts = {}
    real_loss, real_reconstruction = bisimulation.loss, bisimulation.reconstruction

    def catch_loss(*args: object, **kwargs: object) -> torch.Tensor:
        parts["bisimulation"] = real_loss(*args, **kwargs)
        return parts["bisimulation"]

    def catch_reconstruction(*args: object) -> torch.Tensor:
        parts["reconstruction"] = real_reconstruction(*args)
        return parts["reconstruction"]

    bisimulation.loss, bisimulation.reconstruction = catch_loss, catch_reconstruction
    try:
        losses(vision)
    finally:
        bisimulation.loss, bisimulation.reconstruction = real_loss, real_reconstruction
    return parts


def test_masks_can_spare_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sequence then has masks of its own, by what its episodes show; without masks nothing is asked."""
    asked = []
    spare = masks.cubes_that_spare_motion

    def noted(*given: Any) -> torch.Tensor:
        asked.append((given[1], spare(*given)))
        return asked[-1][1]

    monkeypatch.setattr(masks, "cubes_that_spare_motion", noted)
    assert float(losses(make(mask_spares="motion"))[0]) != float(losses(make())[0])
    losses(make(mask_ratio=0.0, mask_spares="motion"))
    ((is_first, visible),) = asked
    assert torch.equal(is_first, batch()["is_first"]) and visible.shape == (3, 8, 64, 64)
    assert not torch.equal(visible[0], visible[1])


def test_where_gradients_go_and_where_they_stop() -> None:
    """HRSSM section 10, check 2."""
    vision = make()
    alike = gradients(vision, "bisimulation")
    assert not any(
        key.startswith(("rssm.projection", "reward_head", "end_head", "target_", "decoder")) for key in alike
    )
    assert any(key.startswith("encoder") for key in alike) and "rssm.gates.weight" in alike
    assert "rssm.posterior_out.weight" in alike
    latent = gradients(vision, "reconstruction")
    for part in ("encoder.convs.0", "rssm.gates", "rssm.posterior_out", "rssm.projection"):
        assert any(key.startswith(part) for key in latent), part
    assert not any(key.startswith(("target_", "reward_head", "decoder")) for key in latent)


def test_in_the_mended_form_the_masked_branch_infers_what_the_raw_one_does() -> None:
    """Where masks hide something, what is inferred differs, and only the masked branch is moved towards the other."""
    assert "inference" not in losses(make(losses="paper"))[1]
    assert float(losses(make(mask_ratio=0.9))[1]["inference"]) > float(losses(make(mask_ratio=0.1))[1]["inference"]) > 0
    vision = make()
    with_it = _gradients_of_total(vision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hrssm, "INFERENCE", 0.0)
        without = _gradients_of_total(vision)
    moved = {key for key in with_it if not torch.allclose(with_it[key], without[key])}
    for part in ("encoder.convs.0", "rssm.gates", "rssm.posterior_out"):
        assert any(key.startswith(part) for key in moved), part
    assert not any(key.startswith(("reward_head", "end_head", "rssm.projection", "target_")) for key in moved)


def _gradients_of_total(vision: HRSSM) -> dict[str, torch.Tensor]:
    vision.zero_grad()
    losses(vision)[0].backward()
    return {key: p.grad.clone() for key, p in vision.named_parameters() if p.grad is not None}


def test_the_decoder_teaches_nothing_else() -> None:
    vision = make()
    losses(vision)[0].backward()
    with_decoder = {k: p.grad.clone() for k, p in vision.named_parameters() if p.grad is not None}
    vision.zero_grad()
    vision._decoder_loss = lambda embed, clean: torch.zeros(())  # type: ignore[method-assign]
    losses(vision)[0].backward()
    for key, p in vision.named_parameters():
        if p.grad is not None and not key.startswith("decoder"):
            assert torch.allclose(p.grad, with_decoder[key]), key
    assert any(g.any() for k, g in with_decoder.items() if k.startswith("decoder"))


def test_both_branches_share_h_bit_for_bit_and_the_raw_one_sees_clean_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    vision, seen = make(), {}
    raw = vision._raw

    def spy(clean, masked, batch, noise):
        seen["clean"], seen["masked"] = clean, masked
        seen["raw"] = raw(clean, masked, batch, noise)
        return seen["raw"]

    monkeypatch.setattr(vision, "_raw", spy)
    shown = []
    vision.encoder.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    data = batch()
    losses(vision, data)
    features = seen["raw"].feat
    assert torch.equal(features[..., -12:], seen["masked"].h.detach())  # h, behind z
    clean = data["obs"].permute(0, 1, 4, 2, 3).float() / 255 - 0.5
    assert torch.allclose(seen["clean"], clean)
    masked = shown[0].unflatten(0, (3, 8))
    hidden = (masked == 0) & (clean != 0)
    assert torch.equal(masked[~hidden], clean[~hidden]) and 0.45 < hidden.float().mean() < 0.55
    assert (hidden == hidden[:1, :, :1]).float().mean() > 0.995  # one mask for the batch and all channels


def test_without_masks_and_noise_both_branches_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """HRSSM section 10, check 4: at first the moving average is the online net."""
    vision = make(mask_ratio=0.0)
    assert masks.cubes(8, 0.0, 64, torch.Generator()).all()
    monkeypatch.setattr(torch, "rand", lambda *shape, generator=None: torch.full(shape, 0.5))
    assert float(losses(vision)[1]["reconstruction"]) < 1e-6
    assert float(losses(vision)[1]["inference"]) < 1e-6
    monkeypatch.undo()
    assert float(losses(vision)[1]["reconstruction"]) > 1e-3  # samples differ


def test_losses_begin_where_they_should() -> None:
    """HRSSM section 10, check 8: ln 255 at init."""
    _, metrics = losses(make())
    assert float(metrics["reward"]) == pytest.approx(5.541, abs=0.01)
    assert float(metrics["kl"]) > 0 and 0 <= float(metrics["bisimulation"]) < 0.5
    assert "bisimulation" not in losses(make(bisimulation=False))[1]


def test_a_batch_that_breaks_the_loss_never_reaches_the_raw_branch(tmp_path) -> None:
    vision = make()
    data = batch()
    broken = {name: value.clone() for name, value in data.items()}
    broken["arrival_reward"][0, 3] = float("nan")
    config = VisionConfig(run=tmp_path, vision="hrssm", model=vision.settings, steps=9, workers=1, max_norm=100.0)
    before = copy.deepcopy(vision.state_dict())
    with pytest.raises(UserError, match=r"reward of a batch .* is not finite"):
        batches = lambda skip: iter([dict(data), dict(data), broken])  # noqa: E731
        fit(vision, batches, dict, config, Run(tmp_path / "v", config, "vision"), torch.device("cpu"))
    after = vision.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert any(not torch.equal(after[k], before[k]) for k in after if k.startswith("target_"))  # of the two good steps


def test_it_learns_rewards_that_a_moving_background_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a bright band stands is the reward; noise moves behind it."""
    generator = torch.Generator().manual_seed(0)
    vision = make(depth=8, code_size=16, hidden_size=16, units=32, mask_ratio=0.3)
    monkeypatch.setattr(vision, "_decoder_loss", lambda embed, clean: torch.zeros(()))  # half of the time
    optimizer = torch.optim.Adam(vision.parameters(), 1e-2)
    losses = []
    for _ in range(100):
        obs = torch.randint(0, 120, (16, 4, 64, 64, 3), dtype=torch.uint8, generator=generator)
        column = torch.randint(0, 4, (16, 1), generator=generator)
        for row in range(16):
            obs[row, :, :, 16 * column[row, 0] : 16 * column[row, 0] + 16] = 255
        data = {name: value[:, :4] for name, value in batch(16, 8).items()}
        data |= {"obs": obs, "arrival_reward": column.float().expand(16, 4)}
        loss, metrics, _ = vision.loss(data, {}, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        vision.after_step()
        losses.append(float(metrics["reward"]))
    assert losses[0] > 5 and sum(losses[-5:]) / 5 < 1.4  # 1.79 for who knows the four rewards, but not which


def test_a_collapse_is_told_and_nothing_else(world: World, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Rewards that are constant teach nothing: after a few steps what is inferred is what was expected."""
    vision = make(free_nats=1.0)
    assert vision.doubt({"kl": 0.5}) == vision.doubt({"kl": 3.0}) == ""
    assert "it infers 0.13 nats a step from frames, of 1 that cost nothing" in vision.doubt({"kl": 0.13})
    common = {"env": "doom", "run": tmp_path, "data": world.data, "workers": 0, "vision": "hrssm", "batch_size": 2}
    settings = HRSSMSettings(sequence_length=4, free_nats=1000.0, **SIZES)
    train_vision(VisionConfig(steps=2, shuffle_buffer=100, model=settings, **common))
    assert "warning: V has collapsed" in capsys.readouterr().out
    assert "V has collapsed" in (tmp_path / "report.html").read_text()


def test_foresight_is_in_standard_deviations_of_what_is_known() -> None:
    torch.manual_seed(0)
    foresight = Foresight(4, 8, 1, 2)
    batches = [torch.randn(5, 6, 2) * torch.tensor([1.0, 3.0]) + 2 for _ in range(40)]
    for one in batches:
        one[0, :3] = torch.nan
        foresight.standard(one)
    known = torch.cat([one.flatten(0, 1)[3:] for one in batches])
    before = foresight.sums.clone()
    foresight.eval()
    standard = foresight.standard(known)
    assert torch.allclose(standard.mean(0), torch.zeros(2), atol=0.05)
    assert torch.allclose(standard.std(0), torch.ones(2), atol=0.05)
    wanted = foresight.standard(batches[0])
    assert torch.equal(foresight.sums, before) and wanted.isnan().sum() == 6
    foresight.train().standard(torch.full((5, 6, 2), torch.nan))  # of which nothing is learnt
    assert torch.allclose(foresight.eval().standard(known), standard, atol=1e-5)
    feat = torch.randn(5, 6, 4)
    error = ((foresight.net(feat) - wanted) ** 2)[~wanted.isnan()].mean()
    assert torch.allclose(foresight.loss(feat, wanted), error)


def test_constant_rewards_teach_by_what_is_ahead_of_them() -> None:
    """Every living step pays 1. With foresight the encoder gets a gradient from how far the end is, and only then do
    different ends make a difference."""
    data = batch() | {"arrival_reward": torch.ones(3, 8), "ahead": torch.rand(3, 8, 2)}
    other = data | {"ahead": data["ahead"].flip(1)}
    vision = make(foresight=(4, 16)).eval()
    first, second = (losses(vision, one)[1] for one in (data, other))
    assert first["foresight"] != second["foresight"] and first["bisimulation"] != second["bisimulation"]
    assert first["reward"] == second["reward"]
    blind = make().eval()
    assert all(
        torch.equal(a, b)
        for a, b in zip(losses(blind, data)[1].values(), losses(blind, other)[1].values(), strict=True)
    )
    loss = vision.foresight.loss(vision._masked(*_seen(vision, data)).feat, vision.foresight.standard(data["ahead"]))
    loss.backward()
    assert float(vision.encoder.convs[0].weight.grad.abs().max()) > 0
    with pytest.raises(UserError, match="--foresight is not of the published losses"):
        HRSSMSettings(foresight=(4,), losses="paper")


def _seen(vision: HRSSM, data: dict[str, torch.Tensor]) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 8, vision.rssm.latent.noise_size, generator=generator)
    return hrssm._centred(data["obs"]).unflatten(0, (3, 8)), data, noise, generator
