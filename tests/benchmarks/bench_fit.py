"""Steps per second of `fit` beside the same steps by hand, the usual training loop and the bare matrix products.

``make bench`` prints a table for one thread and for two; with ``--write`` it also stores book/results/speed.json, which
chapter 9 shows. Everything runs in turn in one process, and ratios are what counts: each is taken within one round, so
that they hold on a machine whose speed drifts. What is timed of `fit` is one whole call for one epoch, with its checks
and its set-up.
"""

import argparse
import functools
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
# What book/experiments.md shows: see experiments/README.md.
SUMMARY = {
    "question": "How many steps a second does `fit` take beside the usual loop over a DataLoader, on 1 and 2 threads?",
    "result": "{results[0][fit_over_usual_loop]} and {results[1][fit_over_usual_loop]} times as many",
    "error": "none: medians of {rounds} rounds in turn; other machines give other numbers",
    "seeds": 1,
    "minutes": 2,
}


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


def by_hand(model: VAE, images: Tensor, learning_rate: float) -> None:
    """One epoch as `fit` takes it, written out: plain autograd, the same schedule and fused Adam, and no check."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.99), fused=True)
    steps = list(torch.randperm(len(images), generator=generator).split(BATCH))
    warm_up = len(steps) // 10
    for step, rows in enumerate(steps):
        x = images[rows]
        mu, log_var = model.encoder(x).chunk(2, 1)
        z = mu + torch.exp(0.5 * log_var) * torch.randn(mu.shape, generator=generator)
        cross_entropy = F.binary_cross_entropy_with_logits(model.decoder(z), x, reduction="sum")
        kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min((step + 1) / warm_up, (len(steps) - step) / (len(steps) - warm_up))
        optimizer.zero_grad(set_to_none=True)
        ((cross_entropy + kl) / len(x)).backward()
        optimizer.step()


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
    """Return seconds a step for each of the four, one number a round."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (steps * BATCH, 28, 28), dtype=np.uint8)
    images = torch.from_numpy(pixels.astype(np.float32) / 255).flatten(1)
    usual = usual_steps(pixels)
    products = product_step(images[:BATCH])
    fresh = functools.partial(VAE, DATA_DIM, (HIDDEN,), LATENT)

    def fit_epoch() -> None:
        fit(fresh(), images, epochs=1, batch_size=BATCH, learning_rate=1e-3, device="cpu", progress=False)

    timed: dict[str, Callable[[], float]] = {
        "usual loop": lambda: seconds(lambda: next(usual), steps // 4),
        "fit": lambda: seconds(fit_epoch, 1) / steps,
        "by hand": lambda: seconds(lambda: by_hand(fresh(), images, 1e-3), 1) / steps,
        "matrix products": lambda: seconds(products, steps),
    }
    found: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        # Forwards and backwards in turn, so that nothing always comes after the same neighbour.
        for name in list(timed) if number % 2 else reversed(timed):
            value = timed[name]()
            if number:  # the first round warms up
                found[name].append(value)
    return found


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the ratios within each round."""
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=100, help="of one epoch: 100 of 128 are 12,800 images")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--write", action="store_true", help=f"store the result in {RESULTS.name}")
    options = parser.parse_args()
    results = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        found = measure(options.rounds, options.steps)
        rates = {name: round(1 / statistics.median(values), 1) for name, values in found.items()}
        result = {
            "threads": threads,
            "steps_per_second": rates,
            "fit_over_usual_loop": ratio(found["usual loop"], found["fit"]),
            "fit_time_over_by_hand": ratio(found["fit"], found["by hand"]),
            "fit_time_over_matrix_products": ratio(found["fit"], found["matrix products"]),
        }
        results.append(result)
        print(f"{threads} thread{'s' if threads > 1 else ''}:")
        for name, rate in rates.items():
            print(f"  {name:16} {rate:7.1f} steps per second")
        print(f"  fit takes {result['fit_over_usual_loop']:.2f} times the steps per second of the usual loop,")
        print(f"  {result['fit_time_over_by_hand']:.2f} times the time of the same steps by hand,")
        print(f"  {result['fit_time_over_matrix_products']:.2f} times that of its matrix products")
    if options.write:
        record = {
            "command": "python tests/benchmarks/bench_fit.py --write",
            "model": f"784-400-20, batch 128, float32, one call for an epoch of {options.steps} steps",
            "results": results,
            "rounds": options.rounds,
            # What speed depends on, and no name of a machine: the vector instructions that PyTorch uses.
            "processor": torch.backends.cpu.get_cpu_capability(),
            "summary": [SUMMARY],
            **shared.provenance(),
        }
        del record["threads"]
        shared.write(RESULTS, record)


if __name__ == "__main__":
    main()
