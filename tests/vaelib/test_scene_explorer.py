"""The scene explorer: truth and model for the factors that are asked for, live and in a page without a kernel."""

import base64
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.conftest import opened_offline
from vaelib import pretrained, scene
from vaelib.autoencoder import Autoencoder
from vaelib.cvae import CVAE
from vaelib.training import fit
from vaelib.vae import VAE
from vaelib.widgets import LatentExplorer, SceneExplorer
from vaelib.widgets.scene import _POSITIONS, _png, _row

CONFIG = {"data_dim": (3, 32, 32), "hidden_dims": (), "channels": (8, 8), "latent_dim": 4, "likelihood": "gaussian"}


def model(**more: int) -> VAE | CVAE:
    """A fresh model, drawn larger, since it would otherwise give nearly the same image for everything."""
    made = pretrained.build({**CONFIG, **more}, seed=1)
    made.start_at_mean(scene.render(scene.draw_factors(20, seed=0)))
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(1.5)
    return made


def pixels(file: bytes, larger: int = 1) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), float)[::larger, ::larger]


def test_a_vae_is_shown_the_truth_and_its_reconstruction_stands_beside() -> None:
    vae, factors = model(), scene.draw_factors(3, seed=5)
    truth, made = SceneExplorer(vae).pictures(factors)
    assert torch.equal(truth, scene.render(factors))
    torch.testing.assert_close(made, vae.reconstruct(truth).clamp(0, 1))


def test_a_cvae_is_shown_the_start_and_asked_for_the_azimuth() -> None:
    cvae, factors = model(condition_dim=2), scene.draw_factors(3, seed=5)
    shown, truth, made = SceneExplorer(cvae, [math.pi / 2, 2, 0, 0, 1]).pictures(factors)
    here = factors.clone()
    here[:, 0] = math.pi / 2
    assert torch.equal(shown, scene.render(here)) and torch.equal(truth, scene.render(factors))
    with torch.no_grad():
        mu = cvae.encode(shown, torch.tensor([[0.0, 1.0]]).expand(3, 2)).mu
        wanted = cvae.decode(mu, torch.stack([factors[:, 0].cos(), factors[:, 0].sin()], 1))
    torch.testing.assert_close(made, wanted.clamp(0, 1), atol=1e-5, rtol=1e-4)
    assert (made[0] - made[1]).abs().max() > 0.02


@pytest.mark.parametrize("more", [{}, {"condition_dim": 2}])
def test_all_sliders_move_together_and_reset_goes_back(more: dict[str, int]) -> None:
    explorer = SceneExplorer(model(**more))
    home = explorer._picture.value
    for slider, at in zip(explorer._sliders, (3, 4, 2, 6, 3), strict=True):
        slider.index = at
    wanted = torch.tensor([math.radians(45), 1.8, 0.5, 0.5, 3.0])
    torch.testing.assert_close(explorer.factors, wanted)
    assert explorer._picture.value == _png(explorer.pictures(wanted[None])[:, 0]) != home
    explorer._go_home(None)
    assert explorer._picture.value == home


def test_the_start_is_the_nearest_position_also_across_a_seam() -> None:
    start = SceneExplorer(model(), [2 * math.pi - 0.01, 1.09, 0.9, -0.01, 2]).factors
    torch.testing.assert_close(start, torch.tensor([0.0, 1.0, 1.0, 0.0, 2.0]))
    again = SceneExplorer(model(), torch.tensor([2 * math.pi + 0.5, 3.6, 0.0, 1.26, 0.0])).factors
    torch.testing.assert_close(again, torch.tensor([math.radians(30), 3.6, 0.0, 0.25, 0.0]))


def test_a_still_for_each_position_of_one_slider_while_the_others_are_at_the_start() -> None:
    explorer = SceneExplorer(model(condition_dim=2), [0, 1.4, 0.5, 0.25, 3])
    stored, frame = explorer.stored(), 0
    assert stored["names"] == [each.name for each in scene.FACTORS] and len(stored["captions"]) == 3
    for k, positions in enumerate(_POSITIONS):
        assert len(stored["values"][k]) == len(positions)
        rows = torch.tensor([0, 1.4, 0.5, 0.25, 3]).repeat(len(positions), 1)
        rows[:, k] = torch.tensor(positions)
        wanted = np.stack([np.asarray(_row(some), float) for some in explorer.pictures(rows).unbind(1)])
        for at in range(len(positions)):
            found = pixels(base64.b64decode(stored["frames"][frame]))
            # what compression loses: eight of the 255 levels, on average, and less than to any other position but for
            # the first step of the blur, which changes less than the compression
            far = np.abs(found - wanted).mean((1, 2, 3))
            assert far[at] < far.min() + 0.1 and far[at] < 8, (k, at)
            frame += 1
    assert frame == len(stored["frames"])
    still = pixels(base64.b64decode(explorer._repr_mimebundle_()["image/png"]), 6)
    assert np.array_equal(still, np.asarray(_row(explorer.pictures(explorer.factors[None])[:, 0]), float))
    assert sum(map(len, stored["frames"])) < 100_000  # a chapter holds it


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda: SceneExplorer("no-such"), ValueError, "no model 'no-such' ships"),
        (lambda: SceneExplorer("mnist-2d"), ValueError, r"images \(784,\): pictures of the scene are \(3, 32, 32\)"),
        (lambda: SceneExplorer(Autoencoder((3, 32, 32), (8,), 2)), TypeError, "is a Autoencoder: give a VAE, or a"),
        (lambda: SceneExplorer(model(condition_dim=4)), ValueError, "are 4 numbers: .*train it with condition_dim=2"),
        (lambda: SceneExplorer({"a": model()}), TypeError, "is a dict: give a VAE, or a"),
        (lambda: SceneExplorer(model().half()), ValueError, r"is torch.float16, .*: call model.float\(\)"),
        (lambda: SceneExplorer(model(), [0, 2, 0, 0, "cube"]), ValueError, "numbers, .*its place in scene.KINDS"),
        (lambda: SceneExplorer(model(), [0, 2]), ValueError, r"shape \(2,\): give azimuth, height, blur, hue, kind"),
        (lambda: SceneExplorer(model(), [0, 9, 0, 0, 0]), ValueError, "the height of picture 0 is 9"),
        (lambda: SceneExplorer(model()).pictures(torch.zeros(1, 4)), ValueError, "factors have shape"),
    ],
)
def test_what_is_no_scene_or_no_model_of_it_is_refused_by_name(given, error, message) -> None:
    with pytest.raises(error, match=message):
        given()


def test_the_latent_explorer_refuses_a_shipped_model_whose_conditions_are_no_classes() -> None:
    shipped = pretrained.load("scene-cvae")
    for given in ("scene-cvae", shipped, {"one": shipped}):
        with pytest.raises(ValueError, match=r"conditions of '.*' are vectors, no classes: .*SceneExplorer\(model\)"):
            LatentExplorer(given)
    shipped_classes = pretrained.load("mnist-cvae-2d")
    assert LatentExplorer(shipped_classes)._spec["classes"] == [str(k) for k in range(10)]
    SceneExplorer("scene-cvae")


def test_the_explorers_know_on_what_conditions_a_readers_own_model_was_trained() -> None:
    factors = scene.draw_factors(6, seed=0)
    pictures, azimuth = scene.render(factors), factors[:, 0]
    told, classes = model(condition_dim=2), model(condition_dim=2)
    LatentExplorer(told), SceneExplorer(classes)  # not trained: both are possible
    settings = {"epochs": 1, "learning_rate": 1e-4, "progress": False, "device": "cpu"}
    fit(told, pictures, y=torch.stack([azimuth.cos(), azimuth.sin()], 1), **settings)
    fit(classes, pictures, y=(azimuth > math.pi).long(), **settings)
    SceneExplorer(told)
    with pytest.raises(ValueError, match=r"conditions of 'decoded' are vectors, no classes"):
        LatentExplorer(told)
    assert LatentExplorer(classes)._spec["classes"] == ["0", "1"]
    with pytest.raises(ValueError, match=r"the model's conditions are classes: .*told the azimuth"):
        SceneExplorer(classes)


def test_pictures_of_factors_as_a_list_or_an_array() -> None:
    explorer, factors = SceneExplorer(model(condition_dim=2)), scene.draw_factors(2, seed=1)
    wanted = explorer.pictures(factors)
    for given in (factors.tolist(), factors.numpy()):
        assert torch.equal(explorer.pictures(given), wanted)


def test_the_model_keeps_its_mode() -> None:
    trained = model()
    trained.train()
    SceneExplorer(trained).stored()
    assert trained.training and all(layer.training for layer in trained.modules())


@pytest.fixture
def saved(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page that an explorer saved, opened from disk without a network."""
    path = tmp_path / "a page.html"
    SceneExplorer(model(condition_dim=2)).save(path)
    assert path.stat().st_size < 1.5e6
    with opened_offline(browser, path) as page:
        yield page


def test_keys_move_one_slider_at_a_time_to_the_still_that_python_drew(saved: Page) -> None:
    stored = SceneExplorer(model(condition_dim=2)).stored()
    picture = saved.get_by_role("img")

    def shown() -> int:
        return stored["frames"].index(picture.get_attribute("src").removeprefix("data:image/webp;base64,"))

    starts = [0, 24, 38, 45, 57]  # of each slider's stills
    home = shown()
    # The start stands among the stills of each slider; JSON holds them all alike.
    assert stored["frames"][home] == stored["frames"][stored["start"][0]]
    azimuth = saved.get_by_role("slider", name="azimuth")
    azimuth.press("ArrowRight")
    assert shown() == stored["start"][0] + 1 and azimuth.get_attribute("aria-valuetext") == "60°"
    saved.get_by_role("slider", name="kind").press("End")
    assert shown() == starts[4] + 3
    assert azimuth.get_attribute("aria-valuetext") == "45°"  # it went back
    saved.get_by_role("slider", name="hue").press("End")
    assert shown() == starts[3] + 11
    saved.get_by_role("button", name="Reset").click()
    assert shown() == home
    text = saved.locator("main").inner_text()
    assert "the truth from there" in text and "one slider moves at a time" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_amiss_in_a_saved_scene(saved: Page, scheme: str) -> None:
    saved.emulate_media(color_scheme=scheme)
    assert Axe().run(saved).response["violations"] == []
    assert saved.evaluate("document.documentElement.scrollWidth") <= 320
    assert "shown to the model" in saved.get_by_role("img").get_attribute("alt")
