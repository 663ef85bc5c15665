"""Train as Burda et al. (2016) did: ``python -m experiments.reproduce_iwae FOLDER [--k 50] [--stages 7]``.

Table 1, one layer: the network is 784-200-200-50 (tanh), the pixels are drawn anew at every step, batches hold 20
images. Stage i of eight takes 3^i epochs at the constant rate 0.001 x 10^(-i/7); eight of them are 3,280 epochs, seven
1,093. With k = 1 the objective is the ELBO, with more the bound L_k. Each stage leaves a checkpoint in FOLDER, so that
the same command goes on where it was cut off; FOLDER/kK.json gets the test log evidence after each stage. Unlike
theirs, weights start uniform in +-1/sqrt(fan_in), the output bias at the mean image, and Adam's betas are 0.9 and 0.99.
This is work for a GPU: on one core an epoch takes about 7 seconds for k = 1, and a minute for k = 50.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import shared
from vaelib import data
from vaelib.evaluation import log_evidence
from vaelib.training import choose_device, fit
from vaelib.vae import VAE


def bound(k: int) -> Any:
    """Return the objective L_k for `vaelib.training.fit`; None stands for the ELBO."""
    if k == 1:
        return None

    def objective(model: VAE, x: Tensor, y: Tensor | None, step: int, generator: torch.Generator) -> Tensor:
        return model.iwae_bound(x, k, generator, check=False)

    return objective


def reproduce(
    model: VAE, k: int, stages: int, folder: Path, train: data.ImageData, test: Tensor, samples: int, progress: bool
) -> list[dict[str, Any]]:
    """Train `model` stage by stage, and return the test log evidence after each."""
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device()
    results = []
    for stage in range(stages):
        rate = 1e-3 * 10 ** (-stage / 7)
        history = fit(
            model,
            train,
            epochs=3**stage,
            batch_size=20,
            learning_rate=rate,
            schedule=None,
            objective=bound(k),
            transform=data.binarize,
            seed=stage,
            checkpoint=folder / f"k{k}-stage{stage}.safetensors",
            progress=progress,
        )
        if history.interrupted:
            raise KeyboardInterrupt
        evidence = log_evidence(model.to(device), test, samples)
        results.append(
            {
                "stage": stage,
                "epochs": (3 ** (stage + 1) - 1) // 2,
                "rate": rate,
                "test_log_evidence": round(evidence.double().mean().item(), 3),
            }
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--k", type=int, default=50, help="importance samples in training (50)")
    parser.add_argument("--stages", type=int, default=7, choices=range(1, 9))
    parser.add_argument("--samples", type=int, default=5000, help="importance samples of the log evidence (5000)")
    options = parser.parse_args()
    test = data.binarize(data.load("mnist", "test").images, torch.Generator().manual_seed(0))
    model = VAE(784, (200, 200), 50, activation="tanh", seed=0)
    results = reproduce(
        model, options.k, options.stages, options.folder, data.load("mnist"), test, options.samples, progress=True
    )
    record = {
        "command": f"python -m experiments.reproduce_iwae FOLDER --k {options.k} --stages {options.stages}",
        "stages": results,
        "evaluation": f"10,000 test images, binarised at random once; {options.samples} samples; nats per image",
        **shared.provenance(choose_device()),
    }
    shared.write(options.folder / f"k{options.k}.json", record)
    for result in results:
        print(f"{result['epochs']} epochs: test log evidence {result['test_log_evidence']:.2f} nats per image")


if __name__ == "__main__":
    main()
