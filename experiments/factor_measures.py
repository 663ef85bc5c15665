"""What codes tell of the scene's factors: probes, the mutual information gap, and DCI disentanglement."""

import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import FastICA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from torch import Tensor, nn
from torch.nn import functional as F

from vaelib import data, scene
from vaelib.networks import mlp

KINDS = len(scene.KINDS)
BINS = 20
RIDGE = (1e-2, 1.0, 1e2, 1e4)  # added to the Gram matrix of standardised inputs
RATES = (1e-3, 5e-3)
EPOCHS = 25
# Columns of `targets` that belong to each factor.
COLUMNS = {"azimuth": (0, 1), "height": (2,), "blur": (3,), "hue": (4, 5)}


class Split(NamedTuple):
    """Inputs of a probe, standardised by those it is fitted on, and factors: to fit on, to choose by, to test on."""

    fit: tuple[Tensor, Tensor]
    choose: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def targets(factors: Tensor) -> Tensor:
    """Return what a probe predicts, each angle as cosine and sine: ``(N, 5) -> (N, 6)``, kind left out."""
    azimuth, height, blur, hue, _ = factors.T
    turn = 2 * math.pi * hue
    return torch.stack([azimuth.cos(), azimuth.sin(), height, blur, turn.cos(), turn.sin()], 1)


def split(inputs: tuple[Tensor, Tensor, Tensor], factors: tuple[Tensor, Tensor, Tensor]) -> Split:
    """Return a Split of inputs ``(n, K)`` and factors ``(n, 5)``, three of each."""
    first = inputs[0].flatten(1)
    mean, std = first.mean(0), first.std(0).clamp_min(1e-6)
    return Split(*[((x.flatten(1) - mean) / std, f) for x, f in zip(inputs, factors, strict=True)])


def scores(predicted: Tensor, factors: Tensor) -> dict[str, float]:
    """Return R^2 of each factor, accuracy of kind, and the median angle between predicted and true azimuth, degrees.

    Args:
        predicted: six numbers as in `targets` and one for each kind, the largest of the most likely, ``(N, 10)``.
        factors: ``(N, 5)``.
    """
    true = targets(factors)
    found = {}
    for name, columns in COLUMNS.items():
        error = (predicted[:, columns] - true[:, columns]).square().sum()
        found[name] = 1 - float(error / (true[:, columns] - true[:, columns].mean(0)).square().sum())
    found["kind"] = float((predicted[:, 6:].argmax(1) == factors[:, 4]).float().mean())
    angle = torch.atan2(predicted[:, 1], predicted[:, 0]) - factors[:, 0]
    found["degrees"] = float(torch.atan2(angle.sin(), angle.cos()).abs().rad2deg().median())
    return found


def _mean(found: dict[str, float]) -> float:
    return sum(found[name] for name in (*COLUMNS, "kind"))


def linear(data: Split) -> dict[str, float]:
    """Return the scores of ridge regression; the kinds are predicted as numbers 0 and 1. Lambda by those to choose."""
    x, f = data.fit
    y = torch.cat([targets(f), F.one_hot(f[:, 4].long(), KINDS).float()], 1)
    mean = y.mean(0)
    gram, right = x.T @ x, x.T @ (y - mean)
    best = (-math.inf, right)
    for each in RIDGE:
        weight = torch.linalg.solve(gram + each * torch.eye(len(gram)), right)
        best = max(best, (_mean(scores(data.choose[0] @ weight + mean, data.choose[1])), weight), key=lambda b: b[0])
    return scores(data.test[0] @ best[1] + mean, data.test[1])


def probe_loss(predicted: Tensor, factors: Tensor, spread: Tensor) -> Tensor:
    """Return squared errors in units of each target's variance, plus the cross entropy of the kinds, ``(N,)``."""
    error = (predicted[:, :6] - targets(factors)) / spread
    return error.square().sum(1) + F.cross_entropy(predicted[:, 6:], factors[:, 4].long(), reduction="none")


def trained(network: nn.Module, data: Split, rate: float, epochs: int, seed: int, batch: int = 100) -> dict[str, float]:
    """Train a network that predicts all factors, less their means; return its scores at its best epoch.

    That is the epoch with the highest score for those to choose by, which stands under "chosen".
    """
    generator = torch.Generator().manual_seed(seed)
    x, f = data.fit
    spread, best = targets(f).std(0), -math.inf
    start = F.pad(targets(f).mean(0), (0, KINDS))
    found: dict[str, float] = {}
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - epoch / epochs)
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            optimizer.zero_grad()
            probe_loss(network(x[rows]) + start, f[rows], spread).mean().backward()
            optimizer.step()
        with torch.no_grad():
            here = _mean(scores(network(data.choose[0]) + start, data.choose[1]))
            if here > best:
                best, found = here, scores(network(data.test[0]) + start, data.test[1]) | {"chosen": here}
    return found


def nonlinear(data: Split, seed: int, epochs: int = EPOCHS) -> dict[str, float]:
    """Return the scores of an MLP of one hidden layer of 128; its rate and its epoch by those to choose by."""
    tried = []
    for rate in RATES:
        network = mlp((data.fit[0].shape[1], 128, 6 + KINDS), generator=torch.Generator().manual_seed(seed))
        tried.append(trained(network, data, rate, epochs, seed))
    best = max(tried, key=lambda found: found["chosen"])
    return {name: value for name, value in best.items() if name != "chosen"}


def binned(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return in which of 20 bins of equal count each value lies; equal values lie in one."""
    edges = np.unique(np.quantile(values, np.arange(1, BINS) / BINS))
    return np.searchsorted(edges, values, side="left")


def mutual_information(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return ``sum p(i, j) log(p(i, j) / (p(i) p(j)))`` of two lists of bins, in nats."""
    joint = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(joint, (one, other), 1 / len(one))
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / independent[seen])).sum())


def mig(codes: Tensor, factors: Tensor) -> dict[str, float]:
    """Return the mutual information gap of each factor.

    ``(I(z_1; v) - I(z_2; v)) / H(v)``, z_1 and z_2 the two codes with the largest I: Chen et al. (2018).
    """
    columns = [binned(column) for column in codes.double().numpy().T]
    found = {}
    for name, values in zip((each.name for each in scene.FACTORS), factors.double().numpy().T, strict=True):
        bins = binned(values)
        entropy = mutual_information(bins, bins)
        *_, second, first = sorted(mutual_information(column, bins) for column in columns)
        found[name] = (first - second) / entropy
    return found


def dci(codes: Tensor, factors: Tensor, trees: int = 20) -> float:
    """Return disentanglement: ``sum_k w_k (1 - H_5(R_k / sum R_k))``, w_k the share of code k of all importances.

    ``R[k, v]`` is how much code k adds to a random forest that predicts factor v, an angle as cosine and sine; H_5 is
    the entropy to base 5. Eastwood and Williams (2018).
    """
    x, y = codes.numpy(), targets(factors).numpy()
    importance = []
    for columns in COLUMNS.values():
        forest = RandomForestRegressor(trees, min_samples_leaf=10, max_features=0.5, random_state=0)
        importance.append(forest.fit(x, y[:, list(columns)].squeeze()).feature_importances_)
    forest = RandomForestClassifier(trees, min_samples_leaf=10, max_features=0.5, random_state=0)
    importance.append(forest.fit(x, factors[:, 4].numpy()).feature_importances_)
    shares = np.array(importance).T
    each = shares / shares.sum(1, keepdims=True).clip(1e-12)
    entropy = -(each * np.log(each.clip(1e-12))).sum(1) / math.log(len(importance))
    return float((shares.sum(1) / shares.sum() * (1 - entropy)).sum())


def rotation(size: int, seed: int) -> Tensor:
    """Return an orthogonal matrix, uniform over all of them: QR of normal numbers, the signs of R's diagonal put in."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return (q * r.diagonal().sign()).float()


def unmixed(codes: Tensor) -> Tensor:
    """Return independent components of codes ``(N, K)``: whitened, and turned to be as far from normal as they can be.

    No factor is seen. Hyvarinen, "Fast and robust fixed-point algorithms for independent component analysis" (1999).
    """
    ica = FastICA(whiten="unit-variance", random_state=0, max_iter=1000)
    return torch.from_numpy(ica.fit_transform(codes.double().numpy())).float()


def rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2 if name == "degrees" else 4) for name, value in found.items()}


def known(part: data.ImageData) -> Tensor:
    """Return the factors of pictures of the scene."""
    assert part.factors is not None
    return part.factors


def probed(code: Callable[[Tensor], Tensor], parts: tuple[data.ImageData, ...], seed: int) -> dict[str, Any]:
    """Return what both probes find in ``code(images)``."""
    inputs = tuple(code(part.images) for part in parts)
    both = split(inputs, tuple(known(part) for part in parts))  # type: ignore[arg-type]
    return {"linear": rounded(linear(both)), "mlp": rounded(nonlinear(both, seed))}


def aligned(codes: Tensor, factors: Tensor, turns: int = 10) -> dict[str, Any]:
    """Return MIG and DCI of codes, and their means over random rotations of the codes."""
    turned = [codes @ rotation(codes.shape[1], seed) for seed in range(turns)]
    counted = [statistics.mean(mig(each, factors)[name] for name in ("height", "blur", "kind")) for each in turned]
    of_each = mig(codes, factors)
    return {
        "mig of each": rounded(of_each),
        "mig": round(statistics.mean(of_each[name] for name in ("height", "blur", "kind")), 4),
        "dci": round(dci(codes, factors), 4),
        "mig, turned": round(statistics.mean(counted), 4),
        "dci, turned": round(statistics.mean(dci(each, factors) for each in turned[:3]), 4),
    }
