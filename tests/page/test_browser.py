"""The page as a person meets it, in a real browser without a window."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import Served

PATIENCE = 60_000  # ms, on a machine that is busy
PIXELS = """name => {
    const canvas = document.querySelector(`#${name} canvas`);
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.join();
}"""
Open = Any


@pytest.fixture
def opened(browser: Any, served: Served) -> Iterator[Open]:
    """Opens the page in a window of its own; nothing may go wrong in its scripts."""
    windows = []
    wrong: list[str] = []

    def one(**looks: Any) -> Any:
        windows.append(browser.new_context(**looks))
        page = windows[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(f"http://{served.host}/")
        page.wait_for_selector("#dream:not([hidden])")
        return page

    yield one
    for window in windows:
        window.close()
    assert wrong == []


def told(page: Any, world: str) -> str:
    text: str = page.inner_text(f"#{world} .told")
    return text


def step_to(page: Any, count: int) -> None:
    page.keyboard.press(".")
    page.wait_for_function("n => document.querySelector('#real .told').textContent.includes(`step ${n},`)", arg=count)


def begin_again(page: Any) -> None:
    page.keyboard.press("r")
    page.wait_for_function("() => document.querySelector('#dream .told').textContent.includes('step 0,')")
    if page.inner_text("#run").startswith("Pause"):
        page.keyboard.press(" ")


def test_keys_lead_both_worlds_until_the_dream_ends(opened: Open) -> None:
    page = opened()
    assert "doom" in page.inner_text("#what") and "Go" in page.inner_text("#run")
    before = {name: page.evaluate(PIXELS, name) for name in ("dream", "real", "seen")}
    assert page.is_checked("[name=ends][value=sampled]")  # ends soon, in this world
    page.keyboard.down("ArrowLeft")  # and that begins it
    page.wait_for_function("() => document.querySelector('#numbers output').textContent === '-1.00'")
    page.wait_for_selector("#dream .curtain:not([hidden])")
    page.keyboard.up("ArrowLeft")
    assert "The dream ends: the chance came up" in page.inner_text("#dream .curtain")
    assert "The dream ended after" in page.inner_text("#status") and "New" in page.inner_text("#run")
    for name, pixels in before.items():
        assert page.evaluate(PIXELS, name) != pixels
    assert page.evaluate("() => document.getElementById('end-now').textContent") != "0 %"
    page.keyboard.press(" ")
    page.wait_for_selector("#dream .curtain", state="hidden")


def test_a_click_chooses_how_dreams_end_and_leaves_the_keys_to_the_game(opened: Open) -> None:
    page = opened()
    page.click("text=when M is sure")
    page.wait_for_function("() => document.activeElement === document.body")
    page.keyboard.down("ArrowLeft")
    page.wait_for_function("() => document.querySelector('#numbers output').textContent === '-1.00'")
    page.keyboard.up("ArrowLeft")
    assert page.is_checked("[name=ends][value=decided]")


def test_the_slider_changes_the_dream(opened: Open) -> None:
    page = opened()
    dreams = []
    for tau in ("0.05", "3", "3"):
        page.fill("#tau", tau)
        assert page.inner_text("#tau-now") == tau
        begin_again(page)
        step_to(page, 1)
        dreams.append(page.evaluate(PIXELS, "dream"))
    assert dreams[0] != dreams[1] == dreams[2]


def test_the_keyboard_alone_is_enough(opened: Open) -> None:
    page = opened()
    page.keyboard.press("c")
    page.wait_for_function("() => document.querySelector('[name=who][value=right]').checked")
    page.keyboard.press("]")
    assert page.inner_text("#tau-now") == "1.2"
    page.focus("#moments summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#strip button")
    page.select_option("#episode", "1")
    page.wait_for_function("() => document.getElementById('moment').max > 16")
    page.focus("#moment")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.focus("#from")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#real .told').textContent.includes('step 2,')")
    assert "step 2," in told(page, "dream")


def test_a_film_is_saved(opened: Open, tmp_path: Path) -> None:
    page = opened()
    page.click("#film")
    page.wait_for_selector("text=Stop (0 frames)")
    step_to(page, 1)
    with page.expect_download() as saved:
        page.click("#film")
    saved.value.save_as(tmp_path / "dream.mp4")
    assert saved.value.suggested_filename == "dream.mp4" and b"ftyp" in (tmp_path / "dream.mp4").read_bytes()[:12]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_by_day_and_night(opened: Open, scheme: str) -> None:
    page = opened(viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True, is_mobile=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)")
    page.locator("[data-key=right]").scroll_into_view_if_needed()
    box = page.locator("[data-key=right]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.wait_for_function("() => document.querySelector('#numbers output').textContent === '1.00'")
    page.mouse.up()
    assert page.is_visible("[data-key=left]") and not page.is_visible("[data-key=up]")
