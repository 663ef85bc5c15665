"""Facts about the figures: what stands in the artists, on the axes and in the error messages."""

import io
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, Ellipse

from vaelib import data, figures
from vaelib.training import History
from vaelib.vae import VAE

PLANE = np.random.default_rng(0).normal(size=(60, 2))
CLASSES = np.arange(60) % 10
POINTS = np.array([[0.5, 0.5], [-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]])


@pytest.fixture(autouse=True)
def book_style():
    mpl.use("Agg")
    with plt.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts]


# The style


def test_class_colours_start_as_the_colour_cycle_does():
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    assert [to_rgb(c) for c in cycle] == [to_rgb(c) for c in figures.CLASS_COLOURS]


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("vision", VISION)
def test_ten_class_colours_differ_in_every_kind_of_colour_vision(vision):
    srgb = np.array([to_rgb(c) for c in (*figures.CLASS_COLOURS, "white")])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1, 1.089])
    lab = np.column_stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])])
    # A CIELAB distance of 2.3 is barely noticed: 12, five times that, is told apart in small dots.
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 12


def test_no_figure_is_heavy():
    def kilobytes(ax):
        file = io.BytesIO()
        ax.figure.savefig(file, format="png")
        return file.tell() / 1000

    digits = np.random.default_rng(0).random((40, 28, 28)) > 0.8  # noise compresses worse than digits do
    assert kilobytes(figures.image_grid(digits, columns=10)) < 40
    assert kilobytes(figures.training_curves({"−ELBO": np.geomspace(200, 100, 20)})) < 40
    assert kilobytes(figures.decision_boundary([1, 1, 0], POINTS, [1, 0, 1, 0])) < 40
    assert kilobytes(figures.latent_scatter(PLANE, CLASSES)) < 80  # ten colours of dots compress worst


# Images


@pytest.mark.parametrize("shape", [(6, 8, 8), (6, 1, 8, 8), (6, 64)])
@pytest.mark.parametrize("kind", [np.asarray, lambda x: torch.tensor(x, requires_grad=True)])
def test_image_grid_holds_every_pixel_in_its_tile_whatever_the_shape(shape, kind):
    images = np.random.default_rng(0).random((6, 8, 8))
    picture = figures.image_grid(kind(images.reshape(shape)), columns=3).get_images()[0].get_array()
    assert picture.shape == (17, 26)  # two rows, three columns, one pixel between tiles
    for k in range(6):
        top, left = 9 * (k // 3), 9 * (k % 3)
        assert np.array_equal(picture[top : top + 8, left : left + 8], images[k])
    assert np.isnan(picture.filled(np.nan)[8]).all()


def test_image_grid_holds_every_pixel_of_images_in_colour_and_is_blank_between_them():
    images = np.random.default_rng(0).random((5, 3, 8, 6))
    for vmin, vmax in ((0, 1), (-1, 3)):
        picture = figures.image_grid(images, columns=3, vmin=vmin, vmax=vmax).get_images()[0].get_array()
        assert picture.shape == (17, 20, 4)
        blank = np.ones((17, 20), dtype=bool)
        for k in range(5):
            place = slice(9 * (k // 3), 9 * (k // 3) + 8), slice(7 * (k % 3), 7 * (k % 3) + 6)
            expected = (np.moveaxis(images[k], 0, 2) - vmin) / (vmax - vmin)
            np.testing.assert_allclose(picture[place][..., :3], expected)
            blank[place] = False
        assert np.array_equal(picture[..., 3] == 0, blank)


def test_image_grid_is_one_axes_with_one_grey_scale_for_all_images():
    ax = figures.image_grid(np.stack([np.full((4, 4), 0.2), np.full((4, 4), 0.9)]))
    assert ax.figure.axes == [ax] and len(ax.get_images()) == 1
    assert ax.get_images()[0].get_clim() == (0, 1)
    assert ax.get_images()[0].get_cmap().name == "gray"
    assert figures.image_grid(np.zeros((2, 4, 4)), vmin=-1, vmax=3).get_images()[0].get_clim() == (-1, 3)


def test_image_grid_draws_each_pixel_as_whole_screen_pixels():
    for shape in ((1, 28, 28), (40, 8, 8), (400, 28, 28)):
        ax = figures.image_grid(np.zeros(shape))
        rows, columns = ax.get_images()[0].get_array().shape
        width, height = ax.get_window_extent().size
        scale = round(width / columns)
        assert scale >= 1
        # The same whole number of screen pixels in both directions, up to float rounding of inches.
        np.testing.assert_allclose([width, height], [scale * columns, scale * rows], rtol=1e-9)
        assert width <= 704


def test_image_grid_labels_each_tile_and_each_row():
    ax = figures.image_grid(np.zeros((5, 8, 8)), columns=3, titles=list("abcde"), row_labels=["first", "second"])
    assert texts(ax) == list("abcde")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    first, fourth = ax.texts[0].get_position(), ax.texts[3].get_position()
    assert first[0] == fourth[0] and fourth[1] > first[1]  # the fourth tile starts the second row
    # Above each tile lies a blank band for its title, and the title stands at its foot.
    tiles = np.isfinite(ax.get_images()[0].get_array().filled(np.nan))[:, 0]
    tops = np.flatnonzero(np.diff(tiles.astype(int)) == 1) + 1
    assert tops.tolist() == [first[1] + 1, fourth[1] + 1] and tops[0] > 1


@pytest.mark.parametrize(
    ("images", "keywords", "message"),
    [
        (np.zeros((3, 500)), {}, "500 pixels are no square image"),
        (np.zeros((3, 8, 8, 3)), {}, r"\(N, 1 or 3, H, W\)"),
        (np.zeros(64), {}, r"\(64,\)"),
        (np.zeros((0, 8, 8)), {}, "no image"),
        (np.full((1, 8, 8), 255, dtype=np.uint8), {}, "divide by 255"),
        (np.full((1, 2, 2), np.nan), {}, r"nan at index \(0, 0, 0\)"),
        (np.zeros((3, 8, 8)), {"columns": 0}, "at least 1"),
        (np.zeros((3, 8, 8)), {"titles": ["one"]}, "titles has 1 texts for 3 images"),
        (np.zeros((3, 8, 8)), {"columns": 3, "row_labels": ["a", "b"]}, "row_labels has 2 texts for 1 rows"),
    ],
)
def test_image_grid_refuses(images, keywords, message):
    with pytest.raises(ValueError, match=message):
        figures.image_grid(images, **keywords)
    assert not plt.get_fignums()  # no empty figure is left behind


# The latent plane


def test_latent_scatter_has_equal_axes_that_name_their_quantity():
    ax = figures.latent_scatter(PLANE, CLASSES)
    assert ax.get_aspect() == 1
    assert ax.get_xlabel() == "latent dimension $z_1$" and ax.get_ylabel() == "latent dimension $z_2$"


def test_latent_scatter_draws_every_point_in_the_colour_of_its_class():
    dots = figures.latent_scatter(torch.tensor(PLANE), torch.tensor(CLASSES)).collections[0]
    assert np.array_equal(dots.get_offsets(), PLANE)
    assert [tuple(c[:3]) for c in dots.get_facecolors()] == [to_rgb(figures.CLASS_COLOURS[k]) for k in CLASSES]


def test_digit_keeps_its_colour_where_other_classes_are_absent():
    dots = figures.latent_scatter(PLANE[:3], [7, 7, 7]).collections[0]
    assert {tuple(c[:3]) for c in dots.get_facecolors()} == {to_rgb(figures.CLASS_COLOURS[7])}


def test_latent_scatter_names_each_class_at_its_median():
    z = np.array([[0, 0], [0, 1], [9, 0.5], [5, 5], [5, 6], [5, 7.0]])
    ax = figures.latent_scatter(z, [0, 0, 0, 3, 3, 3])
    assert [(t.get_text(), t.get_position()) for t in ax.texts] == [("0", (0, 0.5)), ("3", (5, 6))]
    assert texts(figures.latent_scatter(z, [0, 0, 0, 1, 1, 1], names=["cat", "dog"])) == ["cat", "dog"]


def test_names_of_crowded_classes_do_not_cover_each_other():
    z = np.concatenate([np.tile(PLANE.mean(axis=0), (10, 1)), [[-3, -3], [3, 3]]])
    ax = figures.latent_scatter(z, [*range(10), 0, 1])
    ax.figure.canvas.draw()
    boxes = [t.get_bbox_patch().get_window_extent() for t in ax.texts]
    for a, b in combinations(boxes, 2):
        # The boxes are circles: their centres lie at least 0.8 of a diameter apart.
        assert np.hypot(*((a.p0 + a.p1) / 2 - (b.p0 + b.p1) / 2)) > 0.8 * a.width


def test_prior_circles_have_the_radii_asked_for():
    ax = figures.latent_scatter(PLANE, CLASSES, prior_radii=(1, 2))
    circles = [patch for patch in ax.patches if isinstance(patch, Circle)]
    assert [(c.center, c.radius) for c in circles] == [((0, 0), 1), ((0, 0), 2)]


def test_no_codes_give_an_empty_plane():
    assert texts(figures.latent_scatter(np.empty((0, 2)), [])) == []


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (np.zeros((4, 3)), [0, 1, 2, 3], "choose two columns"),
        (np.zeros((4, 1)), [0, 1, 2, 3], r"\(N, 2\)"),
        (np.zeros(4), [0, 1, 2, 3], r"\(N, 2\)"),
        (POINTS, [0, 1, 2], r"labels have shape \(3,\), but 4 points"),
        (POINTS, [0, 1, 2, 10], "0 to 9, but hold 10"),
        (POINTS, [0, 1, 2, -1], "0 to 9, but hold -1"),
        (POINTS, [0, 1, 2, 0.5], "0 to 9, but hold 0.5"),
        ([[0, np.inf]], [0], r"inf at index \(0, 1\)"),
    ],
)
def test_latent_scatter_refuses(z, labels, message):
    with pytest.raises(ValueError, match=message):
        figures.latent_scatter(z, labels)
    assert not plt.get_fignums()


def test_names_must_cover_the_labels():
    with pytest.raises(ValueError, match="names has 1 texts, but the labels go up to 3"):
        figures.latent_scatter(POINTS, [0, 0, 3, 3], names=["zero"])


@pytest.mark.parametrize("covariance", [[[2.0, 0.8], [0.8, 0.5]], [[0.3, -0.2], [-0.2, 0.4]], [1.5, 0.1]])
def test_ellipse_is_where_the_mahalanobis_distance_is_the_radius(covariance):
    mu = np.array([1.0, -2.0])
    ax = figures.gaussian_ellipse(mu, covariance, radii=(1.5,))
    outline = next(patch for patch in ax.patches if isinstance(patch, Ellipse) and not patch.get_fill())
    points = outline.get_patch_transform().transform(outline.get_path().vertices[::3])[:-1]  # the ends of its arcs
    full = np.diag(covariance) if np.ndim(covariance) == 1 else np.array(covariance)
    squared = np.einsum("ni,ij,nj->n", points - mu, np.linalg.inv(full), points - mu)
    np.testing.assert_allclose(squared, 1.5**2, rtol=1e-6)  # a circle of cubic arcs, exact where the arcs join
    assert ax.get_aspect() == 1


def test_ellipse_lies_inside_the_limits_it_sets():
    ax = figures.gaussian_ellipse((5, 5), (1, 4), radii=(2,))
    ax.figure.canvas.draw()
    assert ax.get_xlim()[0] <= 3 and ax.get_xlim()[1] >= 7 and ax.get_ylim()[0] <= 1 and ax.get_ylim()[1] >= 9


@pytest.mark.parametrize(
    ("mu", "covariance", "message"),
    [
        ((0, 0, 0), (1, 1, 1), "shapes"),
        ((0, 0), (-1, -2), r"exp\(log_var\)"),
        ((0, 0), [[1, 2], [2, 1]], "symmetric with positive"),
        ((0, 0), [[1, 0.5], [0, 1]], "symmetric with positive"),
        ((0, np.nan), (1, 1), "mu holds nan"),
    ],
)
def test_ellipse_refuses(mu, covariance, message):
    with pytest.raises(ValueError, match=message):
        figures.gaussian_ellipse(mu, covariance)


# Training curves


def test_numbers_of_a_type_that_numpy_lacks_are_drawn():
    halves = torch.rand(4, 8, 8).bfloat16()
    found, expected = (figures.image_grid(images).images[0].get_array() for images in (halves, halves.float()))
    np.testing.assert_array_equal(found.filled(-1), expected.filled(-1))
    figures.latent_scatter(torch.rand(10, 2).bfloat16(), CLASSES[:10])


def test_training_curves_start_at_epoch_one_in_nats_per_image():
    ax = figures.training_curves({"−ELBO": [3, 2, 1], "KL": torch.tensor([0.1, 0.2, 0.3])})
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "nats per image")
    assert [line.get_label() for line in ax.get_lines()] == ["−ELBO", "KL"]
    assert [line.get_xdata().tolist() for line in ax.get_lines()] == [[1, 2, 3]] * 2
    assert ax.get_lines()[0].get_ydata().tolist() == [3, 2, 1]


def test_validation_is_dashed_in_the_colour_of_its_training_curve():
    ax = figures.training_curves({"−ELBO": [3, 2], "KL": [1, 1]}, validation={"−ELBO": [4, 3]})
    train, validation, other = ax.get_lines()
    assert train.get_color() == validation.get_color() != other.get_color()
    assert (train.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    assert validation.get_label() == "−ELBO, validation"


def test_curves_differ_without_colour_too():
    ax = figures.training_curves({"a": [1, 2], "b": [1, 2], "c": [1, 2]})
    assert len({line.get_marker() for line in ax.get_lines()}) == 3


@pytest.mark.parametrize(
    ("history", "validation", "message"),
    [
        ({}, None, "empty"),
        ({"−ELBO": [1, 2], "KL": [1]}, None, r"'KL': \(1,\)"),
        ({"−ELBO": [[1, 2]]}, None, "one number an epoch"),
        ({"−ELBO": [1, 2]}, {"−ELBO": [1]}, "as many as"),
        ({"−ELBO": [1, 2]}, {"KL": [1, 2]}, "no training curve"),
    ],
)
def test_training_curves_refuse(history, validation, message):
    with pytest.raises(ValueError, match=message):
        figures.training_curves(history, validation=validation)
    assert not plt.get_fignums()


def test_a_history_is_drawn_as_the_message_says():
    history = History(train={"log_likelihood": [-2.0, -1.0], "kl": [1.0, 1.0]}, validation={"kl": [1, 2]})
    for given in ((history,), (history.elbo,)):
        with pytest.raises(
            TypeError, match=r"a curve needs a name: .* such as history\.train or \{\"ELBO\": history\.elbo\}"
        ):
            figures.training_curves(*given)
    with pytest.raises(TypeError, match="in place of the History"):
        figures.training_curves({"ELBO": history.elbo}, validation=history)
    assert not plt.get_fignums()
    assert figures.training_curves({"ELBO": history.elbo}).get_lines()[0].get_ydata().tolist() == [-3, -2]
    figures.training_curves(history.train, validation=history.validation)


# The perceptron's line


@pytest.mark.parametrize("w", [(1.0, 2.0, -0.5), (-3.0, 0.0, 1.0), (0.0, 0.2, 0.1)])
def test_decision_boundary_is_where_the_score_is_zero(w):
    (line,) = figures.decision_boundary(w).get_lines()
    ends = np.array([line.get_xy1(), line.get_xy2()])
    assert np.linalg.norm(ends[0] - ends[1]) > 0
    np.testing.assert_allclose(ends @ w[:2] + w[2], 0, atol=1e-12)  # float64 rounding of numbers near one


def test_positive_side_is_the_tinted_one():
    for sign in (1, -1):
        tint = figures.decision_boundary([sign, 0, 0]).collections[0]
        x = np.concatenate([path.vertices for path in tint.get_paths()])[:, 0]
        assert np.all(sign * x >= 0) and np.max(sign * x) == 1


def test_only_misjudged_points_are_ringed():
    with_bias = np.column_stack([POINTS, np.ones(4)])
    for x in (POINTS, with_bias, torch.tensor(with_bias)):
        ax = figures.decision_boundary([0, 1, 0], x, [1, 0, 1, 1])  # predictions: 1, 0, 0, 1
        (rings,) = [c for c in ax.collections if c.get_label() == "misjudged"]
        assert np.array_equal(rings.get_offsets(), [POINTS[2]])


def test_weights_of_zero_have_no_line():
    ax = figures.decision_boundary([0, 0, 0], POINTS, [1, 0, 1, 1])
    assert len(ax.get_lines()) == 0


def test_legend_stands_in_a_figure_of_its_own_only():
    assert figures.decision_boundary([1, 1, 0], POINTS, [1, 0, 1, 1]).get_legend() is not None
    ax = plt.subplots()[1]
    assert figures.decision_boundary([1, 1, 0], POINTS, [1, 0, 1, 1], ax=ax) is ax
    assert ax.get_legend() is None and ax.get_aspect() == 1


@pytest.mark.parametrize(
    ("weights", "x", "labels", "message"),
    [
        ([1, 2], None, None, r"takes \(3,\)"),
        ([1, 2, np.nan], None, None, "weights holds nan"),
        ([1, 2, 3], np.zeros((4, 4)), [0, 0, 0, 0], "with the bias"),
        ([1, 2, 3], POINTS, None, "labels are missing"),
        ([1, 2, 3], POINTS, [0, 1], "4 points need"),
        ([1, 2, 3], POINTS, [-1, 1, 1, 1], "0 to 1, but hold -1"),
    ],
)
def test_decision_boundary_refuses(weights, x, labels, message):
    with pytest.raises(ValueError, match=message):
        figures.decision_boundary(weights, x, labels)
    assert not plt.get_fignums()


# Networks


def test_network_diagram_writes_every_size_and_label():
    ax = figures.network_diagram([784, 400, 2], ["x", "h", "z"], highlight=-1)
    assert {"784", "400", "2", "x", "h", "z"} <= set(texts(ax))
    assert texts(ax).count("⋮") == 2  # the two units of z are all drawn


def test_small_layers_show_every_unit_and_larger_layers_more_circles():
    ax = figures.network_diagram([3, 5, 1])
    circles = [c for c in ax.collections if c.get_zorder() == 2]
    assert [len(c.get_offsets()) for c in circles] == [3, 5, 1]
    ax = figures.network_diagram([784, 400, 20])
    counts = [len(c.get_offsets()) for c in ax.collections if c.get_zorder() == 2]
    assert counts == sorted(set(counts), reverse=True)


def test_every_circle_is_joined_to_every_circle_of_the_next_layer():
    ax = figures.network_diagram([3, 2, 4])
    lines = [c for c in ax.collections if c.get_zorder() == 1]
    assert [len(c.get_segments()) for c in lines] == [6, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3],), "two or more"),
        (([3, 0],), "at least 1"),
        (([3, 2.5],), "whole numbers"),
        (([3, 2], ["x"]), "labels has 1 texts for 2 layers"),
        (([3, 2], None, None, 2), "highlight"),
    ],
)
def test_network_diagram_refuses(arguments, message):
    keywords = {"highlight": arguments[3]} if len(arguments) > 3 else {}
    with pytest.raises(ValueError, match=message):
        figures.network_diagram(*arguments[:3], **keywords)
    assert not plt.get_fignums()


# All of them


def test_every_figure_draws_on_the_axes_it_is_given_and_shows_nothing(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_: pytest.fail("a plot function called plt.show"))
    calls = [
        lambda ax: figures.image_grid(np.zeros((4, 8, 8)), ax=ax),
        lambda ax: figures.latent_scatter(PLANE, CLASSES, ax=ax),
        lambda ax: figures.training_curves({"KL": [1, 2]}, ax=ax),
        lambda ax: figures.decision_boundary([1, 1, 0], ax=ax),
        lambda ax: figures.gaussian_ellipse((0, 0), (1, 1), ax=ax),
        lambda ax: figures.network_diagram([2, 1], ax=ax),
    ]
    _, panels = plt.subplots(1, len(calls))
    for call, ax in zip(calls, panels, strict=True):
        assert call(ax) is ax
    assert len(plt.get_fignums()) == 1


def test_logits_given_as_images_are_named_and_the_remedy_helps(recwarn):  # FAULTS 65
    vae = VAE(64, (8,), 2)
    logits = vae.decode(torch.zeros(4, 2)) + torch.linspace(-7, 7, 64)
    with pytest.warns(UserWarning, match=r"far outside vmin = 0 to vmax = 1.*show model.mean\(decoded\)"):
        figures.image_grid(logits)
    recwarn.clear()
    figures.image_grid(vae.mean(logits))
    figures.image_grid(logits, vmin=-7, vmax=7)
    assert not recwarn.list


def test_image_data_is_shown_by_its_images():
    digits = data.load("digits").subset(9)
    shown, expected = (figures.image_grid(each).images[0].get_array() for each in (digits, digits.images))
    np.testing.assert_array_equal(shown, expected)
