"""Updates of M (Doom's size), beside the usual code, and beside the LSTM's matrix products alone."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from benchmarks.measure import Row, work
from benchmarks.products import chain
from benchmarks.training import plain_update, update
from worldmodels.models.mdnrnn import MDNRNN
from worldmodels.settings.models import MDNRNNSettings

ROWS, STEPS, CODE, HIDDEN, MIXTURES = 100, 128, 64, 512, 5
INPUT, OUTPUT = CODE + 2, 3 * MIXTURES * CODE + 1


def rows() -> Iterator[Row]:
    batch = {
        "embed": torch.randn(ROWS, STEPS, 2 * CODE), "next_embed": torch.randn(ROWS, STEPS, 2 * CODE),
        "action": torch.rand(ROWS, STEPS, 1), "reward": torch.ones(ROWS, STEPS), "terminated": torch.zeros(ROWS, STEPS),
        "is_first": torch.zeros(ROWS, STEPS),
    }  # fmt: skip
    settings = MDNRNNSettings(hidden_size=HIDDEN, mixtures=MIXTURES, restart_input=True, reward="alive")
    model, plain = MDNRNN(settings, CODE, 1), PlainMDNRNN()
    ours, reference = update(model, batch), plain_update(plain, lambda: plain.loss(batch))
    steps = ROWS * STEPS
    all_steps = [(steps, INPUT, 4 * HIDDEN), (steps, HIDDEN, OUTPUT)]
    forward = chain(*all_steps), chain((ROWS, HIDDEN, 4 * HIDDEN), times=STEPS)
    by_data = chain((steps, OUTPUT, HIDDEN)), chain((ROWS, 4 * HIDDEN, HIDDEN), times=STEPS)
    by_weight = chain((4 * HIDDEN, steps, INPUT + HIDDEN), (OUTPUT, steps, HIDDEN))

    def products() -> None:
        for part in (*forward, *by_data, by_weight):
            part()

    yield Row(
        "M training, Doom's size", "steps/s", work(steps, ours), work(steps, reference), work(steps, products),
        times_reference=1.5, of_limit=0.7,
    )  # fmt: skip


class PlainMDNRNN(nn.Module):
    """The same net: fp32, torch's LSTM, the loss through torch.distributions."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(INPUT, HIDDEN, batch_first=True), nn.Linear(HIDDEN, OUTPUT)

    def loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        z, target = (_sampled(batch[name]) for name in ("embed", "next_embed"))
        inputs = torch.cat([z, batch["action"], batch["is_first"][..., None]], -1)
        out = self.head(self.lstm(inputs)[0])
        logits, mu, logstd = out[..., :-1].unflatten(-1, (3, CODE, MIXTURES)).unbind(-3)
        mixture = MixtureSameFamily(Categorical(logits=logits), Normal(mu, logstd.exp()))
        end = nn.functional.binary_cross_entropy_with_logits(out[..., -1], batch["terminated"])
        return -mixture.log_prob(target).mean() + end


def _sampled(embed: torch.Tensor) -> torch.Tensor:
    mu, logvar = embed.chunk(2, -1)
    return mu + torch.randn_like(mu) * torch.exp(logvar / 2)
