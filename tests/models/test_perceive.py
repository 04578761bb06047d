import numpy as np
import torch

from worldmodels.core.seeding import Noise
from worldmodels.models.perceive import Eyes, perceive


def test_an_episode_is_seen_as_by_hand_though_another_beside_it_ends(model) -> None:
    rand = np.random.default_rng(0)
    obs = [torch.from_numpy(rand.integers(0, 256, (frames, 64, 64, 3), np.uint8)) for frames in (7, 4)]
    actions = [torch.from_numpy(rand.uniform(-1, 1, (len(o) - 1, 1)).astype(np.float32)) for o in obs]
    with torch.no_grad():
        embeds = [model.encode(o) for o in obs]
    noise = Noise([3, 4], model.noise_size)
    state, done, is_first = model.initial(1), torch.zeros(1, 1), torch.ones(1, 1)
    states = list(perceive(model, embeds, actions, Noise([3, 4], model.noise_size)))
    assert len(states) == 7
    for t, seen in enumerate(states):
        state = model.observe(state, done, embeds[0][t : t + 1], is_first, noise.draw()[:1])
        done, is_first = actions[0][min(t, 5)][None], torch.zeros(1, 1)
        for name, value in state.items():
            torch.testing.assert_close(seen[name][:1], value, atol=1e-6, rtol=1e-5)


def test_those_who_go_on_remember_what_they_did(model) -> None:
    obs = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    noise, done = torch.full((3, model.noise_size), 0.3), torch.tensor([[0.9], [-0.9], [0.2]])
    all_rows, some = Eyes(model, 3), Eyes(model, 3)
    for eyes in (all_rows, some):
        eyes.see(obs, noise)
        eyes.did(done)
    left = torch.tensor([2, 1])
    some.keep(left)
    expected, found = all_rows.see(obs, noise), some.see(obs[left], noise[left])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value[left], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(expected["h"][0], expected["h"][1])
