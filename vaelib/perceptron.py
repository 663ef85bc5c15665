"""Rosenblatt's perceptron: one neuron with a step for its output, and the lines it learns (chapter 5). NumPy only."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PerceptronHistory:
    """What `Perceptron.fit` saw, iteration by iteration.

    Attributes:
        weights: ``(iterations + 1, n_inputs)``, those before the first iteration, then those after each.
        errors: ``(iterations,)``, the points misjudged at the moment their turn came.
        accuracy: ``(iterations,)``, the share of the iteration's points that its final weights judge rightly.
    """

    weights: Floats
    errors: NDArray[np.int64]
    accuracy: Floats


class Perceptron:
    """A neuron that answers 1 where the weighted sum of its inputs is positive, and 0 elsewhere.

    ``s(x) = w · x, prediction = 1 if s(x) > 0 else 0``. The inputs carry their own bias: a last column of ones.

    Args:
        n_inputs: the number of inputs, the bias counted among them; as many `weights`, float64, start at zero.

    Raises:
        ValueError: where n_inputs is not a whole number of at least 1.

    Source:
        Rosenblatt (1958); blog post 000; chapter 5.
    """

    def __init__(self, n_inputs: int) -> None:
        if isinstance(n_inputs, bool) or not isinstance(n_inputs, int | np.integer) or n_inputs < 1:
            raise ValueError(f"n_inputs must be a whole number of at least 1 (it counts the bias), not {n_inputs!r}")
        self.n_inputs = int(n_inputs)
        self.weights: Floats = np.zeros(self.n_inputs)

    def score(self, x: ArrayLike) -> Floats:
        """Give the weighted sum ``w · x``, the neuron's output before the step.

        Shapes:
            ``(n, n_inputs) -> (n,)``, or one point ``(n_inputs,) -> ()``.

        Raises:
            ValueError: where x has another width, or holds NaN or infinity.
        """
        return np.asarray(_checked_points(x, self.n_inputs) @ self.weights)

    def predict(self, x: ArrayLike) -> NDArray[np.int64]:
        """Give the class of each point: 1 where the score is positive, 0 where it is negative or zero.

        Shapes:
            ``(n, n_inputs) -> (n,)``, or one point ``(n_inputs,) -> ()``.

        Raises:
            ValueError: as `score` does.
        """
        return np.asarray(self.score(x) > 0, dtype=np.int64)

    def fit(
        self,
        x: ArrayLike | Callable[[int], tuple[ArrayLike, ArrayLike]],
        targets: ArrayLike | None = None,
        iterations: int = 1,
        learning_rate: Callable[[int], float] = lambda i: 0.01 / (i + 1),
    ) -> PerceptronHistory:
        """Learn by the perceptron rule, point by point and in the order given.

        ``w ← w + η_i (t − prediction) x``, with rate ``η_i`` in iteration i = 0, 1, …; t − prediction is −1, 0 or 1.
        Learning goes on from the present weights. They change only when the whole of it has succeeded.

        Args:
            x: points ``(n, n_inputs)``, gone through once in each iteration; or a function of the iteration that
                gives fresh ones with their targets, ``x(i) -> (points, targets)``.
            targets: ``(n,)`` in {0, 1}, one for each point.
            iterations: passes over the points.
            learning_rate: gives the rate of iteration i.

        Raises:
            ValueError: for targets other than 0 and 1, for empty, ill-shaped or non-finite input, for a negative
                number of iterations and for a rate that is not positive.
            TypeError: for a learning_rate that is no function.

        Source:
            Rosenblatt (1958); blog post 000; chapter 5.
        """
        if isinstance(iterations, bool) or not isinstance(iterations, int | np.integer) or iterations < 0:
            raise ValueError(f"iterations must be a whole number of at least 0, not {iterations!r}")
        if not callable(learning_rate):
            raise TypeError(f"learning_rate must be a function of the iteration: lambda i: {learning_rate!r}")
        if callable(x):
            if targets is not None:
                raise ValueError("x is a function that gives its own targets: leave targets out")
            batch = x
        else:
            if targets is None:
                raise ValueError("targets are missing: give one, 0 or 1, for each point")
            fixed = _checked_batch(x, targets, self.n_inputs)

            def batch(_: int) -> tuple[ArrayLike, ArrayLike]:
                return fixed

        weights = self.weights.copy()
        path, errors, accuracy = [weights.copy()], [], []
        for iteration in range(iterations):
            points, wanted = _checked_batch(*batch(iteration), self.n_inputs)
            mistakes = _one_pass(weights, points, wanted, _checked_rate(learning_rate, iteration))
            if not np.isfinite(weights).all():
                raise ValueError(f"the weights overflowed in iteration {iteration}: scale the inputs down")
            path.append(weights.copy())
            errors.append(mistakes)
            accuracy.append(float(np.mean((points @ weights > 0) == wanted)))
        self.weights = weights
        return PerceptronHistory(np.array(path), np.array(errors, dtype=np.int64), np.array(accuracy, dtype=np.float64))


def random_line(generator: np.random.Generator) -> tuple[float, float]:
    """Draw a line y = slope · x + intercept that leaves at least a quarter of the square [−1, 1]² on either side.

    ``slope ~ U(−1, 1), intercept ~ U(−1/2, 1/2)``, returned as a pair.

    Source:
        Chapter 5.
    """
    return float(generator.uniform(-1, 1)), float(generator.uniform(-0.5, 0.5))


def random_line_points(
    n: int, line: tuple[float, float], generator: np.random.Generator, margin: float = 0.0
) -> tuple[Floats, NDArray[np.int64]]:
    """Draw points of the square [−1, 1]², each with the class 1 above the line and 0 below it.

    Points are uniform where their distance from the line (slope, intercept), ``|y − slope · x − intercept| / √(1 +
    slope²)``, is at least `margin`. A positive margin is what the convergence theorem asks for.

    Shapes:
        points ``(n, 3)``, columns x, y and the bias 1; targets ``(n,)``.

    Raises:
        ValueError: where n < 1, where the line misses the square, or where the margin is negative or leaves too
            little room on one side (more than half of the way from the line to the farthest corner).

    Source:
        Blog post 000; chapter 5.
    """
    slope, intercept = line
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n!r}")
    if not np.isfinite([slope, intercept]).all():
        raise ValueError(f"the line (slope, intercept) must be finite, not {line!r}")

    def distance(points: Floats) -> Floats:
        return (points[:, 1] - slope * points[:, 0] - intercept) / np.hypot(1, slope)

    corners = distance(np.array([(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)]))
    # Up to half of the farthest corner's distance, shrinking a side by two towards that corner keeps it clear of the
    # margin: at least a quarter of all points pass, and the loop below is short.
    room = min(corners.max(), -corners.min()) / 2
    if room <= 0:
        raise ValueError(f"the line y = {slope:g} x + {intercept:g} misses the square [-1, 1]^2: one class only")
    if not 0 <= margin <= room:
        raise ValueError(f"margin must lie between 0 and {room:.3f} for this line, not {margin!r}")
    kept = np.empty((0, 2))
    while len(kept) < n:
        drawn = generator.uniform(-1, 1, size=(n, 2))
        kept = np.concatenate([kept, drawn[np.abs(distance(drawn)) >= margin]])
    kept = kept[:n]
    return np.column_stack([kept, np.ones(n)]), (distance(kept) > 0).astype(np.int64)


def _one_pass(weights: Floats, points: Floats, targets: NDArray[np.int64], rate: float) -> int:
    """Apply the rule to each point in turn, in place; count the mistakes."""
    mistakes = 0
    for point, target in zip(points, targets, strict=True):
        error = target - int(point @ weights > 0)
        if error:
            weights += error * point * rate
            mistakes += 1
    return mistakes


def _checked_rate(learning_rate: Callable[[int], float], iteration: int) -> float:
    rate = float(learning_rate(iteration))
    if not (rate > 0 and np.isfinite(rate)):
        raise ValueError(f"the learning rate of iteration {iteration} is {rate!r}: it must be positive and finite")
    return rate


def _checked_points(x: ArrayLike, n_inputs: int) -> Floats:
    points = np.asarray(x, dtype=np.float64)
    if points.ndim not in (1, 2) or points.shape[-1] != n_inputs:
        hint = ""
        if points.ndim in (1, 2) and points.shape[-1] == n_inputs - 1:
            hint = "; add the bias: a last input that is always 1"
        raise ValueError(
            f"x has shape {points.shape}, but this perceptron takes (n, {n_inputs}) or one point ({n_inputs},){hint}"
        )
    finite = np.isfinite(points)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"x holds {points[index]} at index {index}: remove or replace it")
    return points


def _checked_batch(x: ArrayLike, targets: ArrayLike, n_inputs: int) -> tuple[Floats, NDArray[np.int64]]:
    points = np.atleast_2d(_checked_points(x, n_inputs))
    wanted = np.atleast_1d(np.asarray(targets))
    if len(points) == 0:
        raise ValueError("there are no points to learn from")
    if wanted.shape != (len(points),):
        raise ValueError(f"targets have shape {wanted.shape}, but {len(points)} points need ({len(points)},)")
    if not np.isin(wanted, (0, 1)).all():
        if np.isin(wanted, (-1, 1)).all():
            raise ValueError("targets are -1 and 1, but the perceptron answers 0 or 1: convert them with (t + 1) / 2")
        raise ValueError(f"targets must be 0 or 1, but hold {wanted[~np.isin(wanted, (0, 1))][0]!r}")
    return points, wanted.astype(np.int64)
