"""Updates of HRSSM, beside the same losses with everything computed step by step."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.measure import Row, work
from benchmarks.training import plain_update, update
from worldmodels.models import bisimulation, masks
from worldmodels.models.hrssm import HRSSM
from worldmodels.models.latent import balanced_kl
from worldmodels.settings.shared import usual
from worldmodels.settings.stages import VisionConfig

ACTION = 6
SIZES = ("laptop", "paper")


def rows() -> Iterator[Row]:
    laptop, paper = (HRSSM(usual(VisionConfig, "dmc:walker-walk", size, "hrssm").model, ACTION) for size in SIZES)
    yield row("HRSSM training, laptop's size", laptop, 32, 16, 1.5)
    yield row("HRSSM training, paper's size", paper, 16, 64, 0.0)


def row(name: str, model: HRSSM, episodes: int, steps: int, must: float) -> Row:
    """Batches of `episodes` x `steps` frames."""
    batch = {
        "obs": torch.randint(0, 256, (episodes, steps, 64, 64, 3), dtype=torch.uint8),
        "arrival_action": torch.rand(episodes, steps, ACTION), "arrival_reward": torch.rand(episodes, steps),
        "terminated": torch.zeros(episodes, steps), "is_first": torch.zeros(episodes, steps),
    }  # fmt: skip
    batch["is_first"][:, 0] = 1
    plain = copy.deepcopy(model)
    step, plain_step = update(model, batch), plain_update(plain, lambda: plain_loss(plain, batch))

    def ours() -> None:
        step()
        model.after_step()

    def reference() -> None:
        plain_step()
        plain.after_step()

    return Row(name, "updates/s", work(1, ours), work(1, reference), None, must)


def plain_loss(model: HRSSM, batch: dict[str, Tensor]) -> Tensor:
    """The obvious code: for each step of time, both encoders and all heads in turn; fp32."""
    generator = torch.Generator().manual_seed(0)
    episodes, steps = batch["arrival_reward"].shape
    rssm, target = model.rssm, model.target_rssm
    clean = batch["obs"].permute(0, 1, 4, 2, 3).contiguous().float() / 255 - 0.5
    visible = masks.cubes(steps, model.mask_ratio, 64, generator)
    (h, z), (nothing_h, nothing_z) = rssm.initial(episodes), target.initial(episodes)
    total = torch.zeros(())
    feats: list[list[Tensor]] = [[], [], [], []]

    def draw() -> Tensor:
        return torch.rand(episodes, rssm.latent.noise_size, generator=generator).clamp_min(1e-7)

    for t in range(steps):
        first, action, reward = (
            batch["is_first"][:, t, None],
            batch["arrival_action"][:, t],
            batch["arrival_reward"][:, t],
        )
        before_h = torch.lerp(h, nothing_h.expand_as(h), first).detach()
        h, z, posterior = rssm.observe(h, z, action, first, model.encoder(clean[:, t] * visible[t]), draw())
        prior = rssm.prior(h)
        feat = torch.cat([z, h], -1)
        with torch.no_grad():
            embed = model.target_encoder(clean[:, t])
            raw_z = target.latent.sample(target.posterior(h, embed), draw())
            raw = torch.cat([raw_z, h], -1)
            if t:
                next_h = target.advance(torch.lerp(feats[1][-1][:, : z.shape[1]], nothing_z, first), action, before_h)
                feats[3].append(torch.cat([target.latent.sample(target.prior(next_h), draw()), next_h], -1))
        feats[0].append(feat)
        feats[1].append(raw)
        feats[2].append(torch.cat([rssm.latent.sample(prior, draw()), h], -1))
        kl, _ = balanced_kl(rssm.latent, posterior, prior, model.settings.free_nats)
        end = model.end_head(feat).squeeze(-1)
        total = total + kl + model.reward_head.loss(feat, reward).mean()
        total = total + torch.nn.functional.binary_cross_entropy_with_logits(end, batch["terminated"][:, t])
        total = total + bisimulation.reconstruction(rssm.projection(feat), target.projection(raw))
        if t == 0:  # as many pictures as ours
            total = total + torch.nn.functional.mse_loss(model.decoder(embed), clean[:, t] + 0.5)
    online, raw, expected = (torch.cat(part) for part in (feats[0][:-1], feats[1][:-1], feats[2][1:]))
    zeros = torch.zeros(len(online))
    return total / steps + bisimulation.loss(
        online,
        raw,
        expected,
        torch.cat(feats[3]),
        batch["arrival_reward"][:, :-1].T.flatten(),
        zeros,
        zeros,
        model.settings.losses,
    )
