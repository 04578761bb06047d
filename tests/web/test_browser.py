"""The exported page as a person meets it, in a real browser without a window; and its dreams beside Python's."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.web.conftest import FAMILIES, Exports
from worldmodels import models
from worldmodels.acting.controller_spec import controllers_of
from worldmodels.dreams.dream import Dream
from worldmodels.models.latent import Categorical, Gaussian
from worldmodels.page.contents import Pilot
from worldmodels.web.beginnings import beginnings

PATIENCE = 120_000  # ms, on a machine that is busy
PIXELS = """() => {
    const canvas = document.querySelector("#dream canvas");
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.join();
}"""
RISEN = """() => {
    const curtain = document.querySelector("#dream .curtain");
    new MutationObserver(() => { window.risen ||= curtain.hidden; }).observe(curtain, { attributes: true });
}"""
LOADED = """async () => {
    const { load } = await import("./files.js");
    const { Dream } = await import("./dream.js");
    const { controllers } = await import("./controller.js");
    const files = await load(() => {});
    const floats = (tree) => Object.fromEntries(Object.entries(tree).map(([k, v]) => [k, Float32Array.from(v)]));
    const plain = (tree) => Object.fromEntries(Object.entries(tree).map(([k, v]) => [k, Array.from(v)]));
    window.dream = new Dream(files);
    const pilots = Object.entries(controllers(files));
    window.begun = async (kind, row) => plain(await dream.beginning(kind, row));
    window.dreamt = async (state, action, noise, tau, sampled) => {
        dream.tau = tau;
        dream.sampleEnd = sampled;
        const whole = await dream.model.whole(floats(state));
        const step = await dream.dreamt(whole, Float32Array.from(action), Float32Array.from(noise));
        const rgba = Array.from((await dream.picture(step.state)).data);
        const acts = {};
        for (const [name, pilot] of pilots) acts[name] = Array.from(await pilot.act(dream.model, step.state));
        return { ...step, state: plain(step.state), rgba, acts };
    };
}"""


@pytest.fixture
def opened(browser: Any, exports: Exports, address: str) -> Iterator[Any]:
    """Opens an export in a window of its own; nothing may go wrong in its scripts, or be loaded from elsewhere."""
    windows = []
    wrong: list[str] = []

    def one(family: str, **looks: Any) -> Any:
        assert exports[family].web.exists()  # or it is made now
        windows.append(browser.new_context(**looks))
        page = windows[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: None if asked.url.startswith((address, "blob:")) else wrong.append(asked.url))
        page.goto(f"{address}/{family}/")
        page.wait_for_selector("#dream:not([hidden])")
        return page

    yield one
    for window in windows:
        window.close()
    assert wrong == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_with_the_same_noise_is_pythons(opened: Any, exports: Exports, family: str) -> None:
    page = opened(family)
    page.evaluate(LOADED)
    model = models.load(exports[family].run, precision="fp32")
    model.end_shift = 0.0
    pilots = {folder.name: Pilot(model, folder) for folder in controllers_of(exports[family].run)}
    state = {name: value[2:3].clone() for name, value in beginnings(model, 0)["starts"].items()}
    begun = page.evaluate("() => begun('starts', 2)")
    for name, value in state.items():
        assert np.abs(np.array(begun[name]) - value[0].numpy()).max() <= 1e-6
    luck = np.random.default_rng(1)
    ends = set()
    for turn in range(8):
        tau = (1.0, 1.3)[turn % 2]
        sampled = turn >= 4
        action = luck.uniform(-1, 1, model.action_size).astype(np.float32)
        noise = luck.uniform(1e-6, 1 - 1e-6, model.noise_size + 1).astype(np.float32)
        dream = Dream(model, tau, sampled)
        wanted = dream.dreamt(state, torch.from_numpy(action)[None], torch.from_numpy(noise)[None])
        asked = [{name: value[0].tolist() for name, value in state.items()}, action.tolist(), noise.tolist()]
        found = page.evaluate("asked => dreamt(...asked)", [*asked, tau, sampled])
        for name, value in wanted.state.items():
            assert np.abs(np.array(found["state"][name]) - value[0].numpy()).max() <= 1e-4, name
        assert found["reward"] == pytest.approx(float(wanted.reward), abs=1e-4)
        assert found["end"] == pytest.approx(float(wanted.end), abs=1e-4)
        assert found["terminated"] == bool(wanted.terminated)
        picture = np.array(found["rgba"]).reshape(64, 64, 4)
        apart = np.abs(picture[..., :3] - model.decode(wanted.state)[0].numpy().astype(int))
        assert apart.max() <= 1 and apart.mean() <= 0.03 and (picture[..., 3] == 255).all()
        for name, pilot in pilots.items():
            assert found["acts"][name] == pytest.approx(pilot.act(wanted.state).tolist(), abs=1e-4)
        ends.add(round(found["end"], 6))
        state = wanted.state
    assert len(ends) > 4 and len(pilots) == 3  # not the same number each time


@pytest.mark.parametrize("latent", [Categorical(3, 5), Gaussian(4)])
def test_codes_are_drawn_as_pythons(opened: Any, latent: Any) -> None:
    """From the same stats and the same noise, far out as well."""
    page = opened("mdnrnn")
    facts = {"groups": getattr(latent, "groups", latent.size), "classes": getattr(latent, "classes", 0)}
    facts |= {"unimix": 0.01, "least_std": 0.1}
    generator = torch.Generator().manual_seed(0)
    stats = 3 * torch.randn(30, latent.stats_size, generator=generator)
    noise = torch.rand(30, latent.noise_size, generator=generator)
    noise[:4] = torch.tensor([2.0**-25, 1e-5, 0.08, 1 - 2.0**-20])[:, None]
    for tau in (0.1, 1.0, 2.5):
        found = page.evaluate(
            """async ([facts, stats, noise, tau]) => {
                const { Model } = await import("./rssm.js");
                const model = new Model({}, facts);
                const draw = (s, n) => facts.classes ? model.categories(s, n, tau) : model.gaussians(s, n, tau);
                return stats.map((s, row) => {
                    const row_stats = Float32Array.from(s);
                    return [draw(row_stats, noise[row]), model.centre(row_stats)].map((values) => Array.from(values));
                });
            }""",
            [facts, stats.tolist(), noise.tolist(), tau],
        )
        wanted = torch.stack([latent.sample(stats, noise, tau), latent.center(stats)], 1)
        assert np.abs(np.array(found) - wanted.numpy()).max() <= 1e-4


def test_keys_lead_the_dream_until_it_ends(opened: Any) -> None:
    page = opened("mdnrnn")
    assert "doom" in page.inner_text("#what") and page.inner_text("#run").startswith("Go")
    assert not page.is_visible("#film") and not page.is_visible("#real")
    before = page.evaluate(PIXELS)
    page.click("text=with the predicted chance")
    page.wait_for_function("() => document.activeElement === document.body")  # soon after a click keys are the game's
    page.keyboard.down("ArrowLeft")  # and that begins it
    page.wait_for_function("() => document.querySelector('#numbers output').textContent === '-1.00'")
    page.wait_for_selector("#dream .curtain:not([hidden])")
    page.keyboard.up("ArrowLeft")
    assert "The dream ends: the chance came up" in page.inner_text("#dream .curtain")
    assert page.evaluate(PIXELS) != before and page.inner_text("#end-now") not in ("", "0 %", "NaN %")
    page.evaluate(RISEN)  # it may fall again at once
    page.keyboard.press(" ")
    page.wait_for_function("() => window.risen")


def test_temperature_changes_the_dream_and_again_is_the_same(opened: Any) -> None:
    page = opened("mdnrnn")
    dreams = []
    for tau in ("0.05", "3", "3"):
        page.fill("#tau", tau)
        page.keyboard.press("r")
        page.wait_for_function("() => document.querySelector('#dream .told').textContent.includes('step 0,')")
        page.keyboard.press(".")
        page.wait_for_function("() => document.querySelector('#dream .told').textContent.includes('step 1,')")
        dreams.append(page.evaluate(PIXELS))
    assert dreams[0] != dreams[1] == dreams[2]


def test_the_keyboard_alone_is_enough(opened: Any) -> None:
    page = opened("mdnrnn")
    for name in ("deep", "right", "trained", "you", "deep", "right"):
        page.keyboard.press("c")
        page.wait_for_function("name => document.querySelector(`[name=who][value=${name}]`).checked", arg=name)
    page.keyboard.press(".")
    page.wait_for_function("() => document.querySelector('#numbers output').textContent === '1.00'")
    page.focus("#moments summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#strip button")
    page.select_option("#episode", label="in the midst of real episodes")
    page.wait_for_function("() => document.getElementById('moment').max === '255'")
    before = page.evaluate(PIXELS)
    page.focus("#moment")
    page.keyboard.press("ArrowRight")
    page.focus("#from")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#dream .told').textContent.includes('step 0,')")
    assert page.evaluate(PIXELS) != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_by_day_and_night(opened: Any, scheme: str) -> None:
    page = opened("rssm", viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True, is_mobile=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)")
    page.locator("[data-key=right]").tap()
    page.wait_for_function("() => !document.querySelector('#dream .told').textContent.includes('step 0,')")


def test_what_is_missing_is_told(browser: Any, exports: Exports, address: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.route("**/memory.onnx", lambda route: route.fulfill(status=404))
    page.goto(f"{address}/{exports['mdnrnn'].web.name}/")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "memory.onnx is not there (404)" in page.inner_text("#trouble")
    page.close()


def test_whoever_opens_it_from_a_disk_is_told_what_to_do(browser: Any, exports: Exports) -> None:
    page = browser.new_page()
    page.goto(f"file://{exports['mdnrnn'].web}/index.html")
    assert "python -m http.server" in page.inner_text("#trouble")
    page.close()
