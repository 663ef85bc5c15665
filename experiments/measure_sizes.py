"""Image sizes: what a step of training costs in processor time and memory, at 16, 32, 64 and 128 pixels, in colour.

Written before the first full run. Question: what does a picture cost in training at each size, with an MLP and with
convolutions, on one thread and on two, and on a GPU where there is one?
Measure: milliseconds of processor time (of all threads together) for each picture in a step of Adam with batches of 64,
and of the clock. In each round every arm is run once, in turn; the median of the rounds is stored, and the ratio to the
MLP at 32 pixels on as many threads, taken within a round. Memory that does not depend on the machine: weights,
gradients and Adam's two moments (16 bytes a parameter); what is kept of a batch for the backward pass, counted by
autograd's own hooks.
No model is better than another here: how well they fit is measure_networks' question. The MLP has one hidden layer of
400; the convolutions halve the picture until 4 x 4 are left, with 32 channels first and 64 from then on; K = 20.
The time of the clock means something on a quiet machine only: the load stands beside it. Two threads that wait for a
core count the wait as processor time (a trial on a busy machine: 17 times as much), so that their part is written where
the load is below QUIET alone; a GPU's where there is one.

It takes about one minute of processor time: `python -m experiments.measure_sizes`.
"""

import itertools
import os
import statistics
import time
from typing import Any

import torch
from torch import Tensor

from experiments import shared
from vaelib import pretrained

RESULTS = shared.results("sizes")
SIZES = [16, 32, 64, 128]
NETWORKS = ["MLP", "convolutions"]
BATCH = 64
STEPS = {16: 8, 32: 4, 64: 2, 128: 1}  # timed, after one that is not
ROUNDS = 3
QUIET = 0.5


def build(network: str, size: int) -> Any:
    """Return a model for pictures of size x size in colour."""
    config: dict[str, Any] = {"data_dim": (3, size, size), "latent_dim": 20, "likelihood": "gaussian", "sigma": 0.1}
    if network == "MLP":
        return pretrained.build(config | {"hidden_dims": (400,)})
    layers = (size // 4).bit_length() - 1
    return pretrained.build(config | {"hidden_dims": (), "channels": (32, *(64,) * (layers - 1))})


def steps(model: Any, images: Tensor, n: int) -> dict[str, float]:
    """Return processor time and time of the clock for each picture, in milliseconds, over n steps after a first one."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator(images.device).manual_seed(0)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        terms = model.elbo(images, generator=generator)
        (terms.kl - terms.log_likelihood).mean().backward()
        optimizer.step()

    def settled() -> None:
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    step()
    settled()
    began, clock = time.process_time(), time.perf_counter()
    for _ in range(n):
        step()
    settled()
    scale = 1000 / (n * len(images))
    return {"cpu": (time.process_time() - began) * scale, "clock": (time.perf_counter() - clock) * scale}


def memory(network: str, size: int) -> dict[str, Any]:
    """Return the parameters, and megabytes for them in training, for a batch's backward pass, for 1,000 pictures."""
    model, kept = build(network, size), {}

    def keep(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    parameters = list(model.parameters())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        terms = model.elbo(torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0)))
    own = {each.untyped_storage().data_ptr() for each in parameters}
    n = sum(each.numel() for each in parameters)
    del terms
    return {
        "parameters": n,
        "weights_mb": round(16 * n / 1e6, 1),
        "batch_mb": round(sum(size for place, size in kept.items() if place not in own) / 1e6, 1),
        "pictures_mb": round(1000 * 3 * size * size * 4 / 1e6, 1),
    }


def busy() -> float | None:
    """Return how many programs want a core, over the last minute, where the system tells it."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def is_quiet() -> bool:
    load = busy()
    return load is not None and load < QUIET


def measure(threads: int, device: str = "cpu", sizes: list[int] = SIZES, rounds: int = ROUNDS) -> dict[str, Any]:
    """Return for each arm the medians over rounds, the ratios, and the memory."""
    arms = list(itertools.product(sizes, NETWORKS))
    taken: dict[tuple[int, str], list[dict[str, float]]] = {arm: [] for arm in arms}
    before, load = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    for _ in range(rounds):
        for size, network in arms:
            images = torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
            taken[size, network].append(steps(build(network, size).to(device), images, STEPS[size]))
        load.append(busy())
    torch.set_num_threads(before)
    rows = []
    for (size, network), times in taken.items():
        base = taken[sizes[min(1, len(sizes) - 1)], "MLP"]
        ratios = [one["cpu"] / other["cpu"] for one, other in zip(times, base, strict=True)]
        rows.append(
            {
                "size": size,
                "network": network,
                "cpu_ms": round(statistics.median(each["cpu"] for each in times), 3),
                "clock_ms": round(statistics.median(each["clock"] for each in times), 3),
                "ratio": round(statistics.median(ratios), 2),
                "ratios": [round(each, 2) for each in ratios],
            }
        )
        print(rows[-1], flush=True)
    return {"threads": threads, "load": load, "rounds": rounds, "rows": rows}


SUMMARY = [
    {
        "question": "What does a picture of 32 pixels in colour cost in a step of training, on one thread?",
        "result": "MLP {rows[2][cpu_ms]} ms of processor time, convolutions {rows[3][cpu_ms]} ms",
        "error": "none: medians of {rounds} rounds in turn, seed 0; other machines give other numbers",
    },
    {
        "question": "How many times as much does one of 128 pixels cost as an MLP's of 32?",
        "result": "MLP {rows[6][ratio]}, convolutions {rows[7][ratio]}",
        "error": "none: medians of {rounds} ratios, each within a round, seed 0",
    },
]


def main() -> None:
    parts = ["one thread", "two threads", *(["gpu"] if torch.cuda.is_available() else [])]
    for name in shared.chosen(parts, shared.read(RESULTS).get("parts", {}), __doc__):
        if name == "two threads" and not is_quiet():
            print("two threads: not measured, the machine is busy", flush=True)
            continue
        began, device = time.process_time(), "cuda" if name == "gpu" else "cpu"
        part: dict[str, Any] = {"provenance": shared.provenance(device), "seed": 0}
        part |= measure(2 if name == "two threads" else 1, device)
        if name == "one thread":
            pairs = itertools.product(SIZES, NETWORKS)
            part["memory"] = [{"size": size, "network": each, **memory(each, size)} for size, each in pairs]
            part["summary"] = SUMMARY
        part |= {
            "cpu_minutes": round((time.process_time() - began) / 60, 2),
            "command": f"python -m experiments.measure_sizes '{name}'",
        }
        shared.store(RESULTS, part, "parts", name, **HEAD)


HEAD = {
    "question": "What does a picture cost in training at each size?",
    "rivals": "an MLP of 400 and convolutions down to 4 x 4, on one thread and on two",
    "tuning": "none: nothing is compared for its quality",
    "evaluation": "milliseconds of processor time a picture in a step with batches of 64, medians of three rounds in "
    "turn; memory by counting",
    "command": "python -m experiments.measure_sizes",
}


if __name__ == "__main__":
    main()
