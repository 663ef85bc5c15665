"""The book's figures: functions that take arrays and return the Axes they drew on.

NumPy arrays, lists and PyTorch tensors are all accepted. Each draws on `ax`, or without one on a figure of its own.
Nothing is shown or saved here: that is the caller's choice.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, Ellipse
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from vaelib._drawable import (
    as_array,
    check_finite,
    check_length,
    checked_images,
    checked_labels,
    checked_plane_points,
)

# One colour a class, the same for digit k in every figure. Eight are Okabe and Ito's; brown and violet stay apart from
# those under each kind of colour blindness.
CLASS_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#F0E442",
    "#000000",
    "#6B3311",
    "#6A1FC0",
)
INK = "#222222"
GREY = "#777777"


def use_style() -> None:
    """Set size, font and colours of all figures drawn from here on to the book's."""
    plt.style.use(Path(__file__).with_name("vaelib.mplstyle"))


def image_grid(
    images: Any,
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    row_labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    *,
    vmin: float = 0.0,
    vmax: float = 1.0,
    cmap: str = "gray",
    gap: int = 1,
) -> Axes:
    """Show images as the tiles of one picture, row by row, all on the same grey scale from vmin to vmax.

    Args:
        images: ``(N, H, W)``, ``(N, 1, H, W)``, in colour ``(N, 3, H, W)``, ``(N, D)`` with D a square, or ImageData;
            two dimensions are always rows of pixels, and one image alone is ``image[None]``.
        columns: tiles in a row, about the root of N unless given.
        titles: N texts, one above each tile.
        row_labels: one text a row.
        ax: the Axes to draw on, if not a figure of its own.
        vmin: the value that is black.
        vmax: the value that is white.
        cmap: other colours than greys, by Matplotlib's name.
        gap: pixels between two tiles.

    Raises:
        ValueError: for other shapes, for no image, for NaN or infinite pixels, for whole-number pixels above vmax.
    """
    tiles = checked_images(images, vmin, vmax)
    n, height, width = tiles.shape[:3]
    columns = int(np.ceil(np.sqrt(n))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns!r}")
    columns = min(columns, n)
    rows = -(-n // columns)
    head = 0 if titles is None else max(2, round(0.3 * height))
    check_length("titles", titles, n, "images")
    check_length("row_labels", row_labels, rows, "rows")

    step_y, step_x = height + gap + head, width + gap
    # What no tile covers stays NaN, which imshow leaves blank.
    picture = np.full((rows * step_y - gap, columns * step_x - gap, *tiles.shape[3:]), np.nan)
    corners = [(row * step_y + head, column * step_x) for row in range(rows) for column in range(columns)][:n]
    for tile, (top, left) in zip(tiles, corners, strict=True):
        picture[top : top + height, left : left + width] = tile

    ax = _pixel_axes(picture.shape[:2], step_x) if ax is None else ax
    if picture.ndim == 3:  # in colour, imshow knows neither vmin and vmax nor NaN: what is blank gets an opacity of 0
        levels = np.clip((picture - vmin) / (vmax - vmin), 0, 1)
        picture = np.dstack([np.nan_to_num(levels), ~np.isnan(picture[..., 0])])
    ax.imshow(picture, cmap=cmap, vmin=vmin, vmax=vmax, interpolation="nearest")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks([])
    if row_labels is not None:
        ax.set_yticks([row * step_y + head + (height - 1) / 2 for row in range(rows)], row_labels)
        ax.tick_params(axis="y", length=0)
    for title, (top, left) in zip(titles or [], corners, strict=False):
        ax.text(left + (width - 1) / 2, top - 1, title, ha="center", va="bottom", fontsize=8)
    return ax


def latent_scatter(
    z: ArrayLike,
    labels: ArrayLike,
    ax: Axes | None = None,
    *,
    prior_radii: Sequence[float] = (),
    size: float | None = None,
    names: Sequence[str] | None = None,
) -> Axes:
    """Scatter codes in the latent plane by class, and write each class's name at, or close to, its median code.

    Circles of the prior N(0, I) are drawn at `prior_radii`, in standard deviations; `names` are texts, one a class.

    Shapes:
        z ``(N, 2)``; labels ``(N,)``, whole numbers from 0 to 9.

    Raises:
        ValueError: for other shapes, labels outside 0 to 9 and NaN or infinite codes.
    """
    z = as_array(z)
    if z.ndim != 2 or z.shape[1] != 2:
        hint = ": choose two columns, such as z[:, [0, 1]]" if z.ndim == 2 and z.shape[1] > 2 else ""
        raise ValueError(f"z has shape {z.shape}, but a scatter in the plane takes (N, 2){hint}")
    check_finite("z", z)
    labels = checked_labels(labels, len(z), len(CLASS_COLOURS))
    classes = np.unique(labels)
    if names is not None and len(classes) and len(names) <= classes[-1]:
        raise ValueError(f"names has {len(names)} texts, but the labels go up to {classes[-1]}")
    ax = _axes(ax, (4.8, 4.6))
    size = float(np.clip(12_000 / max(len(z), 1), 3, 24)) if size is None else size
    # In the order of the data: no class lies on top because of its number. Hard edges make the file half as large.
    ax.scatter(z[:, 0], z[:, 1], s=size, c=np.array(CLASS_COLOURS)[labels], alpha=0.6, linewidths=0, antialiased=False)
    for radius in prior_radii:
        ax.add_patch(Circle((0, 0), radius, fill=False, edgecolor=INK, linewidth=1, linestyle=(0, (4, 3))))
    medians = np.array([np.median(z[labels == k], axis=0) for k in classes]).reshape(-1, 2)
    for k, (z1, z2) in zip(classes, _spread(medians, 0.075 * _widest(z)), strict=True):
        name = str(k) if names is None else names[k]
        box = {"boxstyle": "circle,pad=0.22" if len(name) == 1 else "round,pad=0.25", "facecolor": "white"}
        ax.text(z1, z2, name, ha="center", va="center", weight="bold", bbox={**box, "edgecolor": CLASS_COLOURS[k]})
    return _latent_plane(ax)


def training_curves(
    history: Mapping[str, ArrayLike],
    ax: Axes | None = None,
    *,
    validation: Mapping[str, ArrayLike] | None = None,
    ylabel: str = "nats per image",
) -> Axes:
    """Draw one curve for each named quantity over the epochs, and those of the validation set dashed.

    The names are the labels: "−ELBO", "KL", …

    Shapes:
        each value ``(epochs,)``; NaN leaves a gap.

    Raises:
        ValueError: for no curve, for values that are not a row of numbers, for curves of different lengths and for
            a validation name that has no training curve.
        TypeError: for what is no dict of curves, such as a History.
    """
    for given in (history, validation):
        if not isinstance(given, Mapping | None):
            raise TypeError(
                f"a curve needs a name: give a dict of them in place of the {type(given).__name__}, such as "
                'history.train or {"ELBO": history.elbo}'
            )
    curves = {name: as_array(values) for name, values in history.items()}
    dashed = {name: as_array(values) for name, values in (validation or {}).items()}
    lengths = {values.shape for values in (*curves.values(), *dashed.values())}
    if not curves:
        raise ValueError("there is no curve to draw: history is empty")
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        shapes = {name: values.shape for name, values in (*curves.items(), *dashed.items())}
        raise ValueError(f"every curve must hold one number an epoch, as many as the others; the shapes are {shapes}")
    if not dashed.keys() <= curves.keys():
        raise ValueError(f"no training curve is named {sorted(dashed.keys() - curves.keys())}: use the same names")
    ax = _axes(ax)
    markers = "osD^vP*X"
    for index, (name, values) in enumerate(curves.items()):
        look: dict[str, Any] = {
            "color": f"C{index}",
            "marker": markers[index % len(markers)],
            "markevery": max(1, len(values) // 10),
        }
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, label=name, **look)
        if name in dashed:
            ax.plot(epochs, dashed[name], label=f"{name}, validation", linestyle="--", markerfacecolor="white", **look)
    ax.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True))
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.legend()
    return ax


def decision_boundary(
    weights: ArrayLike,
    x: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    ax: Axes | None = None,
    *,
    limit: float = 1.0,
) -> Axes:
    """Draw the line w · (x, y, 1) = 0, tint the side where the score is positive, and ring the points misjudged.

    The picture is the square [−limit, limit]²; a figure of its own has a legend beside it. Weights without a direction,
    (0, 0, b), have no line, and none is drawn.

    Shapes:
        weights ``(3,)``; x ``(n, 2)``, or ``(n, 3)`` with its bias column; labels ``(n,)`` in {0, 1}.

    Raises:
        ValueError: for other shapes, labels other than 0 and 1, points without labels, NaN or infinity.
    """
    w = as_array(weights)
    if w.shape != (3,):
        raise ValueError(f"weights have shape {w.shape}, but a line takes (3,): those of x, y and the bias")
    check_finite("weights", w)
    points, classes = (None, None) if x is None else checked_plane_points(x, labels)
    own_figure = ax is None
    ax = _axes(ax, (5.2, 3.8))
    normal = w[:2]
    if np.any(normal):
        nearest = -w[2] * normal / (normal @ normal)
        ax.axline(nearest, nearest + (-normal[1], normal[0]) / np.hypot(*normal), color=INK, label="w · (x, y, 1) = 0")
        edge = np.array([-limit, limit])
        score = w[0] * edge[None, :] + w[1] * edge[:, None] + w[2]
        # The score is linear, so that its contour on the four corners of the square is exact.
        if score.max() > 0:
            ax.contourf(edge, edge, score, levels=[0, score.max()], colors=[CLASS_COLOURS[0]], alpha=0.12)
    if points is not None:
        for k, marker in ((1, "o"), (0, "s")):
            colour = CLASS_COLOURS[0 if k else 3]
            ax.scatter(
                points[classes == k, 0],
                points[classes == k, 1],
                s=14,
                marker=marker,
                color=colour,
                label=f"class {k}",
                linewidths=0,
            )
        wrong = (points @ normal + w[2] > 0) != classes
        ax.scatter(
            points[wrong, 0], points[wrong, 1], s=52, facecolors="none", edgecolors=INK, linewidths=1, label="misjudged"
        )
        if own_figure:
            ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    ticks = np.linspace(-limit, limit, 5)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=ticks, yticks=ticks, aspect="equal")
    ax.set(xlabel="x", ylabel="y")
    return ax


def gaussian_ellipse(
    mu: ArrayLike,
    covariance: ArrayLike,
    ax: Axes | None = None,
    *,
    radii: Sequence[float] = (1.0, 2.0),
    color: str = CLASS_COLOURS[0],
    label: str | None = None,
) -> Axes:
    """Draw the contours of a Gaussian in the latent plane, filled lightly, with a dot at its mean.

    ``(z − μ)ᵀ Σ⁻¹ (z − μ) = r²``, for each r of `radii`.

    Shapes:
        mu ``(2,)``; covariance ``(2, 2)``, or ``(2,)`` variances of a diagonal one, ``exp(log_var)``.

    Raises:
        ValueError: for other shapes, NaN or infinity, and a covariance that is not symmetric and positive.

    Source:
        Chapters 3 and 8.
    """
    centre, cov = as_array(mu), as_array(covariance)
    if centre.shape != (2,) or cov.shape not in ((2,), (2, 2)):
        raise ValueError(f"mu {centre.shape} and covariance {cov.shape} must have shapes (2,) and (2, 2) or (2,)")
    check_finite("mu", centre)
    check_finite("covariance", cov)
    cov = np.diag(cov) if cov.ndim == 1 else cov
    variances, axes = np.linalg.eigh(cov)
    if not np.allclose(cov, cov.T) or variances[0] <= 0:
        raise ValueError("the covariance must be symmetric with positive variances: of log_var, give exp(log_var)")
    ax = _axes(ax, (4.2, 4.2))
    middle = (float(centre[0]), float(centre[1]))
    angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    for radius in radii:
        width, height = 2 * radius * np.sqrt(variances)
        ax.add_patch(Ellipse(middle, width, height, angle=angle, facecolor=color, alpha=0.12, linewidth=0))
        ax.add_patch(Ellipse(middle, width, height, angle=angle, fill=False, edgecolor=color, linewidth=1.3))
    ax.plot(*middle, "o", color=color, label=label)
    ax.autoscale_view()
    return _latent_plane(ax)


def network_diagram(
    layer_sizes: Sequence[int],
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
    *,
    highlight: int | None = None,
) -> Axes:
    """Draw a network as columns of circles joined by lines, with each layer's size below and its label above.

    A layer of many units shows a few circles, fewer for a smaller one, and dots for the rest. The layer number
    `highlight`, such as the latent one, is drawn in a colour of its own.

    Raises:
        ValueError: for fewer than two layers, for sizes that are not whole numbers of at least 1, and for labels
            or a highlight that don't fit the layers.
    """
    sizes = [int(size) for size in layer_sizes]
    if len(sizes) < 2 or min(sizes) < 1 or any(size != given for size, given in zip(sizes, layer_sizes, strict=True)):
        raise ValueError(f"layer_sizes must be two or more whole numbers of at least 1, not {list(layer_sizes)!r}")
    check_length("labels", labels, len(sizes), "layers")
    if highlight is not None and not -len(sizes) <= highlight < len(sizes):
        raise ValueError(f"highlight must be one of the {len(sizes)} layers, not {highlight!r}")
    heights = [_circle_heights(size) for size in sizes]
    top = max(column.max() for column in heights)
    ax = _axes(ax, (1.25 * len(sizes), 0.54 * top + 1.0))
    for left in range(len(sizes) - 1):
        lines = [[(left, a), (left + 1, b)] for a in heights[left] for b in heights[left + 1]]
        ax.add_collection(LineCollection(lines, colors="#BBBBBB", linewidths=0.5, zorder=1))
    near: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "annotation_clip": False}
    for layer, (size, column) in enumerate(zip(sizes, heights, strict=True)):
        chosen = highlight is not None and layer == highlight % len(sizes)
        ax.scatter(
            np.full(len(column), layer),
            column,
            s=62,
            facecolors=CLASS_COLOURS[1] if chosen else "white",
            edgecolors=INK,
            linewidths=1,
            zorder=2,
        )
        if size > len(column):
            ax.text(layer, 0, "⋮", ha="center", va="center", fontsize=13, zorder=3)
        ax.annotate(f"{size:,}", (layer, -top), (0, -14), **near, va="top", color=GREY, fontsize=9)
        if labels is not None:
            ax.annotate(labels[layer], (layer, top), (0, 14), **near, va="bottom")
    ax.set(xlim=(-0.4, len(sizes) - 0.6), ylim=(-top - 0.5, top + 0.5))
    ax.set_axis_off()
    return ax


def _circle_heights(size: int) -> NDArray[np.floating]:
    """Give the heights of the circles that stand for a layer: all of a few, else an even number around the dots."""
    if size <= 5:
        return np.arange(size) - (size - 1) / 2
    half = np.arange(1.0, max(2, round(1.3 * np.log10(size))) + 1)
    return np.concatenate([-half, half])


def _pixel_axes(shape: tuple[int, ...], tile: int) -> Axes:
    """Make Axes that show each pixel of a picture as a square of whole screen pixels: sharp, and small as a file."""
    longest = max(shape)
    # Tiles of about 68 screen pixels; few of them are drawn larger, and no side passes 704, the width of a page.
    scale = max(1, min(max(round(68 / tile), 240 // longest), 704 // longest))
    height, width = (scale * pixels / plt.rcParams["figure.dpi"] for pixels in shape)
    return plt.figure(figsize=(width, height), layout="none").add_axes((0, 0, 1, 1))


def _axes(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    return plt.subplots(figsize=figsize)[1] if ax is None else ax


def _widest(z: NDArray[np.floating]) -> float:
    return float(np.ptp(z, axis=0).max()) if len(z) else 0.0


def _spread(points: NDArray[np.floating], distance: float) -> NDArray[np.floating]:
    """Move points that lie closer together than `distance` apart, each pair by equal steps."""
    points = points.copy()
    for _ in range(100):
        for i in range(len(points)):
            for j in range(i):
                apart = points[i] - points[j]
                length = np.hypot(*apart)
                if length < distance:
                    step = apart / length if length > 0 else np.array([1.0, 0.0])
                    points[i] += 0.5 * (distance - length) * step
                    points[j] -= 0.5 * (distance - length) * step
    return points


def _latent_plane(ax: Axes) -> Axes:
    # "datalim" grows the limits to fit the box; in axes that share limits only the box itself may give way.
    shared = len(ax.get_shared_x_axes().get_siblings(ax)) + len(ax.get_shared_y_axes().get_siblings(ax)) > 2
    ax.set_aspect("equal", adjustable="box" if shared else "datalim")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 5, 10], integer=True))
    ax.set(xlabel="latent dimension $z_1$", ylabel="latent dimension $z_2$")
    return ax
