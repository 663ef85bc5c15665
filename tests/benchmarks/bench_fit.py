"""Steps per second of `fit` beside the usual training loop and the bare matrix products, in turn in one process.

``make bench`` prints a table; with ``--write`` it also stores book/results/speed.json, which chapter 9 shows.
Ratios are what counts: each is taken within one round, so that they hold on a machine whose speed drifts.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from experiments import shared
from vaelib.training import fit
from vaelib.vae import VAE

DATA_DIM, HIDDEN, LATENT, BATCH = 784, 400, 20, 128
RESULTS = shared.results("speed")


class AsImages(Dataset):
    """What an image data set usually does for each item: bytes to a picture, the picture to a float tensor."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.pixels[index])
        tensor = torch.from_numpy(np.array(picture, copy=True)).view(28, 28, 1).permute(2, 0, 1).contiguous()
        return tensor.to(torch.float32).div(255), 0


class UsualVAE(nn.Module):
    """The same model as most examples write it: two heads, a sigmoid at the end, a summed cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mu, self.log_var = (
            nn.Linear(784, HIDDEN),
            nn.Linear(HIDDEN, LATENT),
            nn.Linear(HIDDEN, LATENT),
        )
        self.back, self.out = nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, 784)

    def loss(self, x: Tensor) -> Tensor:
        x = x.view(-1, 784)
        h = F.relu(self.hidden(x))
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        x_hat = torch.sigmoid(self.out(F.relu(self.back(z))))
        kl = -0.5 * torch.sum(1 + log_var - mu.pow(2) - log_var.exp())
        return F.binary_cross_entropy(x_hat, x, reduction="sum") + kl


def usual_steps(pixels: np.ndarray) -> Iterator[None]:
    model = UsualVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        for x, _ in DataLoader(AsImages(pixels), batch_size=BATCH, shuffle=True):
            optimizer.zero_grad()
            loss = model.loss(x)
            loss.backward()
            loss.item()
            optimizer.step()
            yield


def product_step(x: Tensor) -> Callable[[], None]:
    """The eleven matrix products of one step, forward and backward, and nothing else."""
    into, heads = torch.randn(HIDDEN, DATA_DIM), torch.randn(2 * LATENT, HIDDEN)
    back, out = torch.randn(HIDDEN, LATENT), torch.randn(DATA_DIM, HIDDEN)
    h, both, z, logits = (torch.randn(BATCH, width) for width in (HIDDEN, 2 * LATENT, LATENT, DATA_DIM))

    def step() -> None:
        _ = x @ into.T, h @ heads.T, z @ back.T, h @ out.T
        _ = logits @ out, logits.T @ h, h @ back, h.T @ z, both @ heads, both.T @ h, h.T @ x

    return step


def seconds(run: Callable[[], None], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def measure(rounds: int, steps: int) -> dict[str, list[float]]:
    """Return seconds a step for each of the three, one number a round."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (steps * BATCH, 28, 28), dtype=np.uint8)
    images = torch.from_numpy(pixels.astype(np.float32) / 255)
    usual = usual_steps(pixels)
    products = product_step(images[:BATCH].flatten(1))

    def fit_epoch() -> None:
        model = VAE(DATA_DIM, (HIDDEN,), LATENT)
        fit(model, images, epochs=1, batch_size=BATCH, learning_rate=1e-3, device="cpu", progress=False)

    found: dict[str, list[float]] = {"usual loop": [], "fit": [], "matrix products": []}
    for number in range(rounds + 1):
        timed = {
            "usual loop": seconds(lambda: next(usual), steps // 4),
            "fit": seconds(fit_epoch, 1) / steps,
            "matrix products": seconds(products, steps),
        }
        if number:  # the first round warms up
            for name, value in timed.items():
                found[name].append(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"store the result in {RESULTS.name}")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(options.rounds, options.steps)
    rates = {name: 1 / statistics.median(values) for name, values in found.items()}
    against = {
        "usual loop": statistics.median(a / b for a, b in zip(found["usual loop"], found["fit"], strict=True)),
        "matrix products": statistics.median(
            b / a for a, b in zip(found["matrix products"], found["fit"], strict=True)
        ),
    }
    for name, rate in rates.items():
        print(f"{name:16} {rate:7.1f} steps per second")
    print(f"fit takes {against['usual loop']:.2f} times the steps per second of the usual loop")
    print(f"fit takes {against['matrix products']:.2f} times the time of its matrix products")
    if options.write:
        record = {
            "command": "python tests/benchmarks/bench_fit.py --write",
            "model": "784-400-20, batch 128, float32",
            "steps_per_second": {name: round(rate, 1) for name, rate in rates.items()},
            "fit_over_usual_loop": round(against["usual loop"], 2),
            "fit_time_over_matrix_products": round(against["matrix products"], 2),
            "rounds": options.rounds,
            **shared.provenance(),
        }
        shared.write(RESULTS, record)


if __name__ == "__main__":
    main()
