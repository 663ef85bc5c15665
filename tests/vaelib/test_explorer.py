"""The latent explorer: the browser's decoder against Python's, the point moved by every means, and what is refused."""

import base64
import copy
import gc
import importlib
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page
from torch import nn

from vaelib import data, pretrained
from vaelib.autoencoder import Autoencoder
from vaelib.cvae import CVAE
from vaelib.likelihoods import DiscretisedLogistic
from vaelib.vae import VAE
from vaelib.widgets import LatentExplorer
from vaelib.widgets import explorer as explorer_module

MODULE = Path(__file__).resolve().parents[2] / "vaelib/widgets/static/explorer.js"


def digits(n: int = 60) -> data.ImageData:
    return data.load("digits", "test").subset(n)


def spread(model: nn.Module) -> nn.Module:
    """The same model with larger weights: a fresh one decodes nearly the same grey from every code."""
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
            weight.mul_(3).add_((0.1 * noise).to(weight))
    return model


MODELS: dict[str, Any] = {
    "vae": lambda: VAE(64, (20,), 2),
    "vae with tanh, 5 dimensions": lambda: VAE(64, (17, 20), 5, activation="tanh"),
    "vae with leaky relu": lambda: VAE(64, (19,), 3, activation="leaky_relu"),
    "gaussian vae, linear": lambda: VAE(64, (), 2, likelihood="gaussian"),
    "cvae": lambda: CVAE(64, 10, (20,), 2),
    "autoencoder": lambda: Autoencoder(64, (20,), 2),
    "vae of a grey shape": lambda: VAE((1, 8, 8), (20,), 2),
    "vae of a colour shape": lambda: VAE((3, 4, 5), (20,), 2),
    "vae in double precision": lambda: VAE(64, (20,), 2).double(),
    "vae in half precision": lambda: VAE(64, (20,), 2).half(),
    "convolutions in colour": lambda: pretrained.build(
        {"data_dim": (3, 16, 24), "hidden_dims": (), "latent_dim": 3, "channels": (6, 5), "activation": "leaky_relu"}
    ),
    "convolutions, grey, with classes": lambda: pretrained.build(
        {"data_dim": (1, 8, 8), "hidden_dims": (), "latent_dim": 2, "channels": (4,), "condition_dim": 10}
    ),
    # `spread` makes the logarithm of the scale three times as large: about 0.05.
    "256 grey values": lambda: VAE((3, 4, 4), (20,), 2, likelihood=DiscretisedLogistic(256, 0.37)),
    "a layer without a bias": lambda: VAE(64, (20,), 2, decoder=nn.Sequential(nn.Linear(2, 64, bias=False))),
}


# --- In Python. ---


def test_z_and_label_start_at_the_centre_and_can_be_observed():
    explorer = LatentExplorer(CVAE(64, 10, (8,), 3))
    seen = []
    explorer.observe(lambda change: seen.append((change["name"], change["new"])), names=["z", "label"])
    assert (explorer.z, explorer.label) == ([0.0, 0.0, 0.0], 0)
    explorer.z, explorer.label = [1.0, 0.0, -2.0], 4
    assert seen == [("z", [1.0, 0.0, -2.0]), ("label", 4)]


@pytest.mark.parametrize(
    ("z", "message"),
    [
        ([3.5, 0.0], r"z\[0\] is 3.5: every dimension lies between -3.0 and 3.0"),
        ([0.0, math.nan], r"z\[1\] is nan"),
        ([0.0, -math.inf], r"z\[1\] is -inf"),
        ([0.0], "z has 1 numbers: this model has latent_dim = 2"),
    ],
)
def test_a_point_that_can_t_be_is_refused_and_the_old_one_stays(z, message):  # FAULTS 42
    explorer = LatentExplorer(VAE(64, (8,), 2))
    explorer.z = [1.0, 1.0]
    with pytest.raises(ValueError, match=message):
        explorer.z = z
    assert explorer.z == [1.0, 1.0]


def test_a_label_that_is_no_class_is_refused():
    explorer = LatentExplorer(CVAE(64, 10, (8,), 2))
    for label in (-1, 10):
        with pytest.raises(ValueError, match=f"label is {label}: classes are 0 to 9"):
            explorer.label = label
    with pytest.raises(ValueError, match="this model has no classes"):
        LatentExplorer(VAE(64, (8,), 2)).label = 1


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("mnist-3d", ValueError, "no model 'mnist-3d' ships with vaelib: choose one of"),
        ({}, ValueError, "there is no model to explore"),
        (nn.Linear(2, 64), TypeError, "is a Linear: the explorer takes a VAE, a CVAE or an Autoencoder"),
        ({"a": VAE(64, (8,), 2), "b": VAE(64, (8,), 3)}, ValueError, "need the same"),
        (VAE(63, (8,), 2), ValueError, "63 pixels are no square: give data"),
        (VAE((2, 4, 4), (8,), 2), ValueError, r"shape \(2, 4, 4\): the explorer shows grey .* and colour"),
        ({"a": VAE((3, 4, 4), (8,), 2), "b": VAE((1, 6, 8), (8,), 2)}, ValueError, "need the same"),
    ],
)
def test_what_is_no_model_is_named(model, error, message):  # FAULTS 42
    with pytest.raises(error, match=message):
        LatentExplorer(model)


@pytest.mark.parametrize("n_codes", [0, -3, 2.5, True, None, "9"])
def test_a_number_of_codes_that_is_none_is_refused(n_codes):
    with pytest.raises(ValueError, match=f"n_codes must be a whole number of at least 1, not {n_codes!r}"):
        LatentExplorer(VAE(64, (8,), 2), digits(), n_codes=n_codes)
    assert len(LatentExplorer(VAE(64, (8,), 2), digits(), n_codes=np.int64(5))._code_labels) == 5


@pytest.mark.parametrize("span", [0, -1, math.nan, math.inf, "3"])
def test_a_span_that_is_no_range_is_refused(span):
    with pytest.raises(ValueError, match=f"span must be a positive number, not {span!r}"):
        LatentExplorer(VAE(64, (8,), 2), span=span)
    explorer = LatentExplorer(VAE(64, (8,), 2), span=np.float32(2))
    assert explorer._spec["span"] == 2 and type(explorer._spec["span"]) is float


def test_data_without_an_image_and_labels_of_more_than_a_byte_are_refused():
    vae, images = VAE(64, (8,), 2), digits().images[:3]
    with pytest.raises(ValueError, match="data hold no image: give some, or nothing in place of data"):
        LatentExplorer(vae, digits().subset(0))
    for labels, reach in (([0, 1, 300], "0 to 300"), ([-1, 0, 1], "-1 to 1")):
        with pytest.raises(ValueError, match=f"labels reach from {reach}: number them from 0 to 255"):
            LatentExplorer(vae, data.ImageData("far", images, torch.tensor(labels)))
    explorer = LatentExplorer(vae, data.ImageData("many", images, torch.tensor([0, 200, 255])))
    assert list(explorer._code_labels) == [0, 200, 255] and explorer.still()


def test_data_that_are_no_images_of_the_model_are_named():
    with pytest.raises(TypeError, match=r"data is a Tensor: give ImageData"):
        LatentExplorer(VAE(64, (8,), 2), digits().images)
    with pytest.raises(ValueError, match=r"images have shape \(60, 8, 8\)"):
        LatentExplorer(VAE(81, (8,), 2), digits())
    flat = data.ImageData("flat", digits().images.flatten(1), digits().labels)
    assert LatentExplorer(VAE(64, (8,), 2), flat)._spec["height"] == 8


def test_a_number_of_pixels_and_the_same_grey_shape_stand_side_by_side():
    explorer = LatentExplorer({"flat": VAE(64, (8,), 2), "shape": VAE((1, 8, 8), (8,), 2)}, digits())
    assert torch.equal(*explorer.decode())


def test_the_dimensions_that_vary_most_come_first():
    vae = VAE(64, (), 4)
    with torch.no_grad():
        vae.encoder[0].weight.zero_()
        for dimension, size in enumerate((0.1, 2.0, 0.0, 0.5)):
            vae.encoder[0].weight[dimension, 20] = size
    assert LatentExplorer(vae, digits())._spec["order"] == [1, 3, 0, 2]
    assert LatentExplorer(vae)._spec["order"] == [0, 1, 2, 3]


def test_a_decoder_that_the_browser_does_not_know_is_drawn_in_python():
    vae = VAE(64, (8,), 2, decoder=nn.Sequential(nn.Linear(2, 64), nn.Softplus(), nn.Linear(64, 64)))
    explorer = LatentExplorer({"known": VAE(64, (8,), 2), "unknown": vae})
    assert [bool(each["layers"]) for each in explorer._spec["decoders"]] == [True, False]
    before = explorer._frames
    explorer.z = [2.0, -1.0]
    expected = torch.sigmoid(vae.decode(torch.tensor([[2.0, -1.0]]))) * 255
    assert explorer._frames != before
    # Half a grey level of rounding.
    assert (torch.frombuffer(bytearray(explorer._frames), dtype=torch.uint8) - expected).abs().max() <= 0.5 + 1e-3


class Brighter(VAE):
    """A model that does more than the layers of its decoder say."""

    def decode(self, z, y=None):
        return super().decode(z) + 1


class Steps:
    """A likelihood of the reader's own."""

    name = "steps"
    log_prob = sample = check = None

    def mean(self, decoded):
        return (decoded > 0).to(decoded)


def with_a_weight(number: float) -> VAE:
    vae = VAE(64, (8,), 2)
    with torch.no_grad():
        vae.decoder[0].weight[0, 0] = number
    return vae


def with_layers(*between: nn.Module) -> VAE:
    return VAE(64, (8,), 2, decoder=nn.Sequential(nn.Linear(2, 64), *between, nn.Linear(64, 64)))


def convolved(**options: int) -> VAE:
    """A decoder with another transposed convolution than those of `vaelib.networks`."""
    layers = nn.Linear(2, 32), nn.Unflatten(1, (2, 4, 4)), nn.ConvTranspose2d(2, 2, stride=2, **options)
    return VAE((3, 8, 8), (8,), 2, decoder=nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 192)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: with_layers(nn.Softplus()), "its decoder contains Softplus"),
        (lambda: with_layers(nn.LeakyReLU(0.1)), r"its decoder contains LeakyReLU\(negative_slope=0.1\)"),
        (lambda: with_layers(nn.BatchNorm1d(64)), "its decoder contains BatchNorm1d"),
        (lambda: convolved(padding=0, output_padding=0, kernel_size=2), "its decoder contains ConvTranspose2d"),
        (lambda: convolved(kernel_size=4, padding=1, dilation=1, groups=2), "its decoder contains ConvTranspose2d"),
        (lambda: VAE(64, (), 2, likelihood=DiscretisedLogistic(2)), "more than the layers of its decoder"),
        (lambda: with_layers(nn.Tanh(), nn.ReLU()), "ReLU does not follow a linear layer"),
        (lambda: VAE(64, (8,), 2, decoder=nn.Linear(2, 64)), "a decoder of its own kind, Linear"),
        (lambda: Brighter(64, (8,), 2), "more than the layers of its decoder"),
        (lambda: VAE(64, (8,), 2, likelihood=Steps()), "the mean of its likelihood, steps"),
        (lambda: with_a_weight(1e6), "weights that float16 can't hold"),
        (lambda: with_a_weight(math.nan), "weights that float16 can't hold"),
    ],
)
def test_a_picture_that_the_browser_would_draw_wrong_is_drawn_in_python_and_says_why(make, why):
    explorer = LatentExplorer(make())
    [described] = explorer._spec["decoders"]
    assert described["layers"] == [] and re.search(why, described["why"]), described
    assert len(explorer._frames) in (64, 192) and explorer._weights == b""


def noisy_vae(data_dim: int = 64) -> VAE:
    """A model whose modes differ: Dropout and BatchNorm on both sides."""

    def network(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(inputs, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Dropout(0.5), nn.Linear(30, outputs)
        )

    return VAE(data_dim, (), 2, encoder=network(data_dim, 4), decoder=network(2, data_dim))


def test_the_explorer_runs_models_in_eval_mode_and_puts_the_mode_of_each_layer_back(tmp_path):
    vae = noisy_vae().train()
    vae.encoder[1].eval()  # a frozen layer in a model that trains
    modes = [module.training for module in vae.modules()]
    before = {key: value.clone() for key, value in vae.state_dict().items()}
    explorer = LatentExplorer(vae, digits())
    explorer.z = [1.0, -1.0]
    explorer.save(tmp_path / "page.html")
    assert torch.equal(explorer.decode(), explorer.decode())  # Dropout would draw anew
    assert [module.training for module in vae.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in vae.state_dict().items())  # the running means too
    vae.eval()
    with torch.no_grad():
        torch.testing.assert_close(explorer.decode(), torch.sigmoid(vae.decode(torch.tensor([[1.0, -1.0]]))))
        codes = vae.encode(digits().images).mu
    assert np.array_equal(np.frombuffer(explorer._codes, "<f2").reshape(-1, 2), codes.half().numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [lambda: spread(VAE(64, (20,), 2)), noisy_vae], ids=["mlp", "drawn in Python"])
def test_models_of_other_precision_decode_as_they_do_in_single(make, dtype):
    single = make()
    other = copy.deepcopy(single).to(dtype)
    exact, explorer = LatentExplorer(single, digits()), LatentExplorer(other, digits())
    exact.z = explorer.z = [0.5, -1.5]
    assert explorer.decode().dtype == torch.float32
    # A few roundings of the narrower type; logits up to about 5 make the difference in the image smaller.
    tolerance = max(1e-5, 20 * torch.finfo(dtype).eps)
    assert (explorer.decode() - exact.decode()).abs().max() <= tolerance
    assert explorer.still().startswith(b"\x89PNG")
    assert bool(explorer._spec["decoders"][0]["layers"]) == bool(exact._spec["decoders"][0]["layers"])


def test_images_in_colour_keep_their_colours():
    vae = spread(VAE((3, 4, 5), (20,), 2))
    images = torch.rand(20, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    explorer = LatentExplorer(vae, data.ImageData("noise", images, torch.arange(20) % 10))
    assert (explorer._spec["height"], explorer._spec["width"]) == (4, 5)
    column = np.asarray(Image.open(io.BytesIO(explorer._thumbnails)).convert("RGB"), np.float32) / 255
    wanted = images.movedim(1, -1).reshape(80, 5, 3).numpy()
    # 400 pixels of noise in 64 colours: half a step of a cube of four colours a side, and more in its corners.
    assert np.abs(column - wanted).mean() < 0.1
    assert explorer.still().startswith(b"\x89PNG")


def test_what_a_notebook_keeps_is_small_the_same_every_time_and_names_shipped_weights():
    def bundle(model):
        return LatentExplorer(model, digits())._repr_mimebundle_()[0]

    first, again = bundle(VAE(64, (20,), 2)), bundle(VAE(64, (20,), 2))
    view = "application/vnd.jupyter.widget-view+json"
    assert set(first) == {view, "text/plain", "image/png", "application/vnd.vaelib.explorer+json"}
    for each in (first, again):
        del each[view]
    assert first == again
    state = first["application/vnd.vaelib.explorer+json"]
    numbers = 3 * 20 + 21 * 64
    assert len(base64.b64decode(state["_weights"][0]["base64"])) == 2 * numbers
    assert base64.b64decode(first["image/png"]).startswith(b"\x89PNG")
    images = data.ImageData("noise", torch.rand(300, 28, 28), torch.arange(300) % 10)
    shipped = LatentExplorer({"a": "mnist-2d", "b": "mnist-2d"}, images).stored()
    assert shipped["_weights"] == [{"shipped": "mnist-2d"}] * 2
    # 300 images of noise, which nothing compresses: half a byte a pixel, and 5% for PNG; digits take a third.
    assert len(json.dumps(shipped)) < 1.05 * 300 * 784 / 2 * 4 / 3 + 5000


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "style", ["default", MODULE.parents[2] / "vaelib.mplstyle"], ids=["matplotlib's", "the book's"]
)
def test_the_still_image_shows_the_place_and_the_decoded_image(style):
    explorer = LatentExplorer(spread(CVAE(64, 10, (20,), 3)), digits())
    with plt.style.context(style):
        stills = [explorer.still()]
        for name, value in (("z", [2.0, 0.0, 0.0]), ("label", 3), ("z", [2.0, 0.0, 1.0])):
            explorer.set_trait(name, value)
            stills.append(explorer.still())
    assert len(set(stills)) == 4


def test_a_cell_run_twenty_times_keeps_one_explorer_and_one_callback(monkeypatch):  # FAULTS 44
    shell = SimpleNamespace(parent_header={})
    monkeypatch.setattr(explorer_module, "get_ipython", lambda: shell)

    def run(cell: str, number: int) -> list[float]:
        shell.parent_header = {"metadata": {"cellId": cell}, "header": {"msg_id": f"{cell} {number}"}}
        left, right = (LatentExplorer(VAE(64, (20,), 2), digits()) for _ in range(2))
        seen: list[float] = []
        left.observe(lambda change: seen.append(change["new"][0]), names="z")
        left.z, right.z = [1.0, 0.0], [2.0, 0.0]
        return seen

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(each), LatentExplorer) for each in gc.get_objects())

    before = alive()
    assert [run("a cell", number) for number in range(20)] == [[1.0]] * 20
    assert alive() == before + 2
    run("another", 0)
    assert alive() == before + 4  # the cells leave each other's alone


def test_a_dollar_in_a_title_is_no_formula():
    vae = VAE(64, (8,), 2)
    LatentExplorer({"cost $1": vae, r"$\frac$": vae}).still()


def test_the_old_name_gives_the_same_class_and_tells_the_reader_once():
    with pytest.warns(DeprecationWarning, match=r"write `from vaelib.widgets import LatentExplorer`"):
        from vaelib.explorer import LatentExplorer as Former
    assert Former is LatentExplorer
    cells = ["from vaelib.explorer import LatentExplorer", "import vaelib\nvaelib.explorer.LatentExplorer"]
    code = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in {cells + cells}:
    shell.run_cell(cell)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.count("DeprecationWarning") == 1 and "vaelib.widgets" in ran.stderr, ran.stderr
    with pytest.raises(AttributeError, match=r"'vaelib\.explorer' has no attribute 'Explorer'"):
        _ = importlib.import_module("vaelib.explorer").Explorer


# --- In a browser, without a kernel. ---


@pytest.fixture
def page(browser, tmp_path) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.file = tmp_path / "page.html"
    yield page
    assert page.complaints == []
    page.close()


def show(page: Page, explorer: LatentExplorer) -> None:
    """Open a page, from a file, that holds the module and the stored state, and nothing else."""
    module = MODULE.read_text(encoding="utf-8").replace("export default { render };", "").replace("export ", "")
    state = json.dumps(explorer.stored()).replace("<", "\\u003c")
    shipped = {"mnist-2d": base64.b64encode(explorer._weights).decode()}
    style = MODULE.with_suffix(".css").read_text(encoding="utf-8")
    page.file.write_text(
        f"<!doctype html><meta charset=utf-8><title>Explorer</title><style>{style}</style><div id=here></div>"
        f"<script>{module}\nwindow.stored = {state};\n"
        f"window.model = mount(document.getElementById('here'), stored, {json.dumps(shipped)});</script>",
        encoding="utf-8",
    )
    page.goto(page.file.as_uri())
    page.wait_for_function("document.querySelector('.vae-value').textContent !== ''")


def image(page: Page, number: int = 0) -> list[int]:
    """The grey values on a canvas that shows a decoded image, after the next frame."""
    return page.evaluate(
        """async (number) => {
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            const canvas = document.querySelectorAll('.vae-image')[number];
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            return Array.from(data).filter((_, i) => i % 4 === 0);
        }""",
        number,
    )


def z(page: Page) -> list[float]:
    return page.evaluate("Array.from(model.get('z'))")


@pytest.mark.parametrize("name", MODELS)
def test_the_browser_decodes_as_python_does(name, page):
    model = spread(MODELS[name]())
    classes = getattr(model, "condition_dim", 0)
    explorer = LatentExplorer(model)
    show(page, explorer)
    codes = 6 * torch.rand(100, model.latent_dim, generator=torch.Generator().manual_seed(1)) - 3
    labels = torch.arange(100) % 10
    found = page.evaluate(
        """([codes, labels]) => {
            const spec = stored._spec;
            const draw = decoder(spec.decoders[0], widen(model.get('_weights')), spec.classes.length);
            return codes.map((code, i) => Array.from(draw(code, labels[i])));
        }""",
        [codes.tolist(), labels.tolist()],
    )
    # What the browser gets is float16; Python decodes with the same numbers here, so that 1e-5 of float32 sums remain.
    likelihood = copy.deepcopy(getattr(model, "likelihood", None))
    model.half().float().likelihood = likelihood  # whose scale is not among the weights
    decoded = model.decode(codes, *((labels,) if classes else ()))
    expected = (model.mean(decoded) if hasattr(model, "mean") else decoded).flatten(1)
    assert expected.std(0).max() > 0.05
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-5, atol=1e-5)


def test_shipped_weights_lose_nothing_on_the_way(page):
    explorer = LatentExplorer("mnist-2d")
    show(page, explorer)
    explorer.z = [1.2, -0.7]
    page.evaluate("() => { document.querySelector('.vae-pad').focus(); }")
    for key, times in (("ArrowRight", 12), ("ArrowDown", 7)):
        for _ in range(times):
            page.keyboard.press(key)
    assert z(page) == pytest.approx([1.2, -0.7])
    # A grey level is 0.004: the pixels agree with Python's to the rounding of the screen.
    difference = torch.tensor(image(page)) - 255 * explorer.decode()[0]
    assert difference.abs().max() <= 0.5 + 0.01


def test_colours_reach_the_canvas(page):
    explorer = LatentExplorer({"known": spread(VAE((3, 4, 5), (20,), 2)), "unknown": Brighter((3, 4, 5), (20,), 2)})
    explorer.z = [1.0, 0.5]
    show(page, explorer)
    found = page.evaluate(
        """() => Array.from(document.querySelectorAll('.vae-image'), (canvas) =>
            Array.from(canvas.getContext('2d').getImageData(0, 0, 5, 4).data).filter((_, i) => i % 4 !== 3))"""
    )
    wanted = 255 * explorer.decode().unflatten(1, (3, 20)).movedim(1, -1).flatten(1)
    assert wanted[0].view(20, 3).std(1).max() > 5  # no grey
    assert (torch.tensor(found) - wanted).abs().max() < 1.5  # a grey level of float16


INK = """() => {
    const pad = document.querySelector('.vae-pad');
    const ink = getComputedStyle(pad).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    // Where the walk's dashes are, left of the point that is at the centre.
    const { data } = pad.getContext('2d').getImageData(110, 319, 150, 2);
    const dashes = [...Array(data.length / 4).keys()].filter((i) => data[4 * i + 3] > 200);
    return dashes.length > 50 && dashes.every((i) => ink.every((each, k) => Math.abs(data[4 * i + k] - each) < 8));
}"""


@pytest.mark.parametrize(
    "where", ["document.documentElement.dataset.theme = 'dark'", "document.body.dataset.jpThemeLight = 'false'"]
)
def test_the_plane_is_drawn_anew_when_the_site_or_jupyterlab_goes_dark(where, page):
    show(page, LatentExplorer(VAE(64, (8,), 2)))
    dark = ":is([data-theme=dark], [data-jp-theme-light=false])"
    page.add_style_tag(
        content=f"body {{color: #123}} {dark} :is(body, .vae-explorer) {{color: #fed}} body{dark} {{color: #fed}}"
    )
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function(INK)
    before = page.locator(".vae-pad").evaluate("pad => getComputedStyle(pad).color")
    page.evaluate(where)
    page.wait_for_function(INK, timeout=5000)
    assert page.locator(".vae-pad").evaluate("pad => getComputedStyle(pad).color") != before


def test_every_control_moves_the_point_and_changes_the_picture(page):
    show(page, LatentExplorer(spread(CVAE(64, 10, (20,), 3)), digits()))
    pictures = [image(page)]

    def changed(what: str) -> None:
        pictures.append(image(page))
        assert pictures[-1] != pictures[-2], what

    box = page.locator(".vae-pad").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"])
    changed("click")
    across, up, *_ = page.evaluate("stored._spec.order")
    assert (z(page)[across], z(page)[up]) == pytest.approx((1.5, 1.5), abs=0.05)
    page.mouse.down()
    page.mouse.move(box["x"] - 50, box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    changed("drag, beyond the edge")
    assert (z(page)[across], z(page)[up]) == pytest.approx((-3.0, 0.0), abs=0.05)
    page.locator(".vae-pad").press("ArrowUp")
    changed("arrow key")
    page.locator(".vae-pad").press("Home")
    changed("Home")
    for number in range(3):
        page.locator(".vae-sliders input").nth(number).focus()
        page.keyboard.press("PageUp")
        changed(f"slider {number}")
    page.locator("select").select_option("7")
    changed("class")
    assert page.evaluate("model.get('label')") == 7
    for text in ("Random", "Reset"):
        page.get_by_role("button", name=text).click()
        changed(text)
    assert z(page) == [0, 0, 0]
    page.get_by_label("Place on the walk").fill("1")
    changed("walk")
    assert z(page)[across] == pytest.approx(2)


def test_decoding_and_painting_a_digit_takes_at_most_four_milliseconds(page):
    explorer = LatentExplorer("mnist-2d")
    assert [each["outputs"] for each in explorer._spec["decoders"][0]["layers"]] == [500, 784]
    show(page, explorer)
    times = page.evaluate(
        """async () => {
            const draw = decoder(stored._spec.decoders[0], widen(model.get('_weights')), 0);
            const canvas = document.querySelector('.vae-image');
            const times = [];
            for (let i = 0; i < 200; i++) {
                await new Promise(requestAnimationFrame);
                const start = performance.now();
                paint(canvas, draw([3 * Math.sin(i), 3 * Math.cos(2 * i)], 0), 28, 28);
                times.push(performance.now() - start);
            }
            return times.sort((a, b) => a - b);
        }"""
    )
    # The median, which a busy machine hardly moves.
    assert times[100] <= 4, f"median {times[100]:.1f} ms, 95th percentile {times[190]:.1f} ms"


def test_a_hundred_thousand_moves_leave_the_memory_flat(page):  # FAULTS 43
    show(page, LatentExplorer(VAE(64, (20,), 2), digits()))
    moves = """async () => {
        const slider = document.querySelector('.vae-sliders input');
        for (let i = 0; i < 50000; i++) {
            slider.value = -3 + (i % 120) / 20;
            slider.dispatchEvent(new Event('input'));
            if (i % 1000 === 0) await new Promise(requestAnimationFrame);
        }
    }"""
    session = page.context.new_cdp_session(page)

    def used() -> float:
        session.send("HeapProfiler.collectGarbage")
        return session.send("Runtime.getHeapUsage")["usedSize"]

    page.evaluate(moves)
    before = used()
    page.evaluate(moves)
    assert used() < before + 500_000  # bytes; a leak of one code a move would be 800,000 and more


def test_a_walk_plays_to_its_end_and_can_be_stopped(page):
    show(page, LatentExplorer(spread(VAE(64, (20,), 2))))
    page.get_by_role("button", name="Play walk").click()
    page.wait_for_function("model.get('z')[0] > -1.9 && model.get('z')[0] < 1.5")
    page.get_by_role("button", name="Stop walk").click()
    stopped = z(page)
    page.wait_for_timeout(200)
    assert z(page) == stopped
    page.get_by_role("button", name="Play walk").click()
    page.wait_for_function("model.get('z')[0] === 2", timeout=20_000)
    page.get_by_role("button", name="Play walk").wait_for()


def test_of_a_hundred_fast_moves_the_last_one_wins(page):  # FAULTS 43
    explorer = LatentExplorer(spread(VAE(64, (20,), 2)))
    show(page, explorer)
    page.evaluate(
        """() => {
            const slider = document.querySelector('.vae-sliders input');
            for (let i = 0; i < 100; i++) {
                slider.value = -3 + 0.05 * i;
                slider.dispatchEvent(new Event('input'));
            }
        }"""
    )
    explorer.z = [1.95, 0.0]
    assert z(page) == pytest.approx([1.95, 0.0])
    assert (torch.tensor(image(page)) - 255 * explorer.decode()[0]).abs().max() < 1.5  # a grey level of float16


def test_markup_in_a_title_is_shown_as_text(page):  # FAULTS 45
    title = "<script>window.harmed = true</script><b>AE</b>"
    show(page, LatentExplorer({title: VAE(64, (8,), 2), "VAE": VAE(64, (8,), 2)}))
    assert page.locator("figcaption").first.text_content() == title
    assert page.evaluate("window.harmed") is None


def test_nearest_codes_are_the_nearest(page):
    vae, shown = spread(VAE(64, (20,), 2)), digits(40)
    show(page, LatentExplorer(vae, shown))
    page.get_by_role("checkbox", name="nearest codes").check()
    captions = page.locator(".vae-near span")
    captions.first.wait_for()
    nearest = vae.encode(shown.images).mu.half().float().norm(dim=1).argsort()[:5]
    assert [int(text) for text in captions.all_text_contents()] == shown.labels[nearest].tolist()
    page.locator(".vae-near").nth(3).click()
    assert z(page) == pytest.approx(vae.encode(shown.images).mu[nearest[3]].tolist(), abs=2e-3)  # float16
    drawn = page.evaluate(
        """async () => {
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            const canvas = document.querySelector('.vae-near canvas');
            return Array.from(canvas.getContext('2d').getImageData(0, 0, 8, 8).data).filter((_, i) => i % 4 === 0);
        }"""
    )
    # Once there, it is the nearest itself, and drawn in 8 greys.
    assert (torch.tensor(drawn) / 255 - shown.images[nearest[3]].flatten()).abs().max() <= 0.5 / 7 + 3e-3


def test_a_decoder_that_the_browser_does_not_know_shows_what_python_drew(page):
    vae = VAE(64, (8,), 2, decoder=nn.Sequential(nn.Linear(2, 64), nn.Softplus(), nn.Linear(64, 64)))
    explorer = LatentExplorer({"known": VAE(64, (8,), 2), "unknown": spread(vae)})
    explorer.z = [1.0, 1.0]
    show(page, explorer)
    assert image(page, 1) == list(explorer._frames)


def test_images_behind_the_plane_follow_the_other_dimensions_when_the_point_rests(page):
    show(page, LatentExplorer(spread(VAE(64, (20,), 3))))
    page.get_by_label("images behind the plane").check()
    corner = """async () => {
        await new Promise((done) => setTimeout(done, 400));
        const pad = document.querySelector('.vae-pad');
        return pad.getContext('2d').getImageData(0, 0, 40, 40).data.join();
    }"""
    before = page.evaluate(corner)
    page.get_by_role("slider", name="z1").press("End")
    assert page.evaluate(corner) == before
    page.get_by_role("slider", name="z3").press("End")
    assert page.evaluate(corner) != before


def test_the_controls_are_large_enough_for_a_finger_and_named(page):
    show(page, LatentExplorer(CVAE(64, 10, (8,), 3), digits()))
    page.get_by_role("checkbox", name="nearest codes").check()
    page.locator(".vae-near").first.wait_for()
    small = page.evaluate(
        """() => [...document.querySelectorAll('.vae-explorer :is(button, select, label)')]
            .filter((each) => each.getBoundingClientRect().height < 43.5).map((each) => each.outerHTML)"""
    )
    assert small == []
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('.vae-explorer :is(input, select, canvas:not([aria-hidden]))')]
            .filter((each) => !each.getAttribute('aria-label') && !each.labels?.length).map((each) => each.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_explorer_fits_into_the_page(width, page):
    page.set_viewport_size({"width": width, "height": 700})
    show(page, LatentExplorer({"one": VAE(64, (8,), 20), "two": VAE(64, (8,), 20)}, digits()))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- Names of classes, and more than ten of them. ---


def clothes(names: tuple[str, ...], n: int = 36) -> data.ImageData:
    images = torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    return data.ImageData("clothes", images, torch.arange(n) % len(names), classes=names)


LONG = ("T-shirt/top", "Trouser", "Pullover", "<b>Dress</b>", *(f"kind {k}" for k in range(4, 12)))


def test_class_names_are_kept_and_a_cvae_s_classes_bear_them():
    colour = VAE((3, 4, 5), (20,), 2)
    assert LatentExplorer(colour, clothes(LONG))._spec["names"] == list(LONG)
    assert "names" not in LatentExplorer(VAE(64, (8,), 2), digits())._spec
    assert "names" not in LatentExplorer(colour)._spec
    cvae = CVAE((3, 4, 5), 12, (20,), 2)
    assert LatentExplorer(cvae, clothes(LONG))._spec["classes"] == list(LONG)
    assert LatentExplorer(cvae)._spec["classes"] == [str(k) for k in range(12)]
    assert LatentExplorer(CVAE((3, 4, 5), 13, (20,), 2), clothes(LONG))._spec["classes"][11:] == ["11", "12"]
    numbered = data.ImageData("clothes", clothes(LONG[:3]).images, clothes(LONG[:3]).labels)
    stills = [
        LatentExplorer(colour, each).still() for each in (numbered, clothes(LONG[:3]), clothes(("o", "ki", "tsu")))
    ]
    assert stills[0] == stills[1] != stills[2]  # long names would cover the plane: their numbers stand for them
    assert LatentExplorer(colour, clothes(LONG)).still() not in stills


def test_long_names_are_listed_below_the_plane_and_named_at_the_nearest_codes(page):
    vae = spread(VAE((3, 4, 5), (20,), 2))
    show(page, LatentExplorer(vae, clothes(LONG)))
    listed = page.locator(".vae-legend li").all_text_contents()
    assert listed == [f"{k} {name}" for k, name in enumerate(LONG)]
    page.get_by_role("checkbox", name="nearest codes").check()
    captions = page.locator(".vae-near span")
    captions.first.wait_for()
    nearest = vae.encode(clothes(LONG).images).mu.half().float().norm(dim=1).argsort()[:5]
    assert captions.all_text_contents() == [LONG[int(each) % 12] for each in nearest]
    described = page.locator(".vae-near").first.get_attribute("aria-label")
    assert f"an image of class {LONG[int(nearest[0]) % 12]}, at" in described


def test_short_names_stand_on_the_plane_and_a_cvae_is_told_its_class_by_name(page):
    show(page, LatentExplorer(spread(CVAE((3, 4, 5), 3, (20,), 2)), clothes(("o", "ki", "tsu"))))
    assert page.locator(".vae-legend").count() == 0
    page.locator("select").select_option("tsu")
    page.wait_for_function("document.querySelector('.vae-value').textContent.endsWith('class tsu')")
    assert page.evaluate("model.get('label')") == 2


def test_decoding_an_image_of_the_scene_takes_a_few_milliseconds(page):
    config = {"data_dim": (3, 32, 32), "hidden_dims": (), "latent_dim": 8, "channels": (32, 64)}
    show(page, LatentExplorer(spread(pretrained.build(config))))
    took = page.evaluate(
        """() => {
            const draw = decoder(stored._spec.decoders[0], widen(model.get('_weights')), 0);
            const times = Array.from({ length: 30 }, (_, i) => {
                const start = performance.now();
                draw(Array(8).fill(i / 30), 0);
                return performance.now() - start;
            });
            return Math.min(...times);
        }"""
    )
    assert took < 16  # a frame, on a slow machine too: 2.5 million products
