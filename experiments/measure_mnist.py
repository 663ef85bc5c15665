"""Measure the long MNIST runs of chapter 9 and record how: ``python -m experiments.measure_mnist [NAME ...]``.

Writes book/results/mnist.json: the learning rates tried on 5,000 validation images, then, at the best of them, the test
-ELBO of five seeds trained on all 60,000 images, and one run of the recipe that others have published. Names choose
among the runs. With OMP_NUM_THREADS=1, ten epochs of 784-400-20 take half a minute, and everything half an hour.
"""

import statistics
from typing import Any

import torch

from experiments import shared
from vaelib import data
from vaelib.evaluation import mean_elbo
from vaelib.training import choose_device, fit
from vaelib.vae import VAE

RESULTS = shared.results("mnist")
SEEDS = [0, 1, 2, 3, 4]
RATES = [1e-3, 2e-3, 3e-3, 5e-3, 9e-3]
SMALL = {"hidden_dims": [400], "latent_dim": 20, "activation": "relu"}
POST_002 = {"hidden_dims": [400, 400], "latent_dim": 200, "activation": "leaky_relu"}
RUNS: dict[str, dict[str, Any]] = {
    "784-400-20": {"model": SMALL, "batch_size": 128, "epochs": 10},
    "784-400-20 in 3 epochs": {"model": SMALL, "batch_size": 128, "epochs": 3, "rates": [*RATES, 1.5e-2]},
    "784-400-400-200": {"model": POST_002, "batch_size": 100, "epochs": 10},
}
# What book/experiments.md shows of each run: see experiments/README.md.
BESIDE_PUBLISHED = {
    "question": "Where does the recipe of chapter 9 arrive in as many epochs as a published run, and a rerun of that?",
    "result": "{mean:.2f} after {epochs} epochs; the published recipe, run here, "
    "{published_recipe[test_by_epoch][9]:.1f}",
    "error": "{sd:.2f} (standard deviation over seeds); the rerun has one seed",
}
SUMMARIES: dict[str, dict[str, Any]] = {
    "784-400-20": {**BESIDE_PUBLISHED, "minutes": 10},
    "784-400-20 in 3 epochs": {
        "question": "How far does the recipe come in three epochs?",
        "result": "{mean:.2f} nats, test -ELBO",
        "error": "{sd:.2f} (standard deviation over seeds)",
        "minutes": 3,
    },
    "784-400-400-200": {**BESIDE_PUBLISHED, "minutes": 17},
}


def measure(name: str) -> dict[str, Any]:
    run = RUNS[name]
    train, test = data.load("mnist"), data.load("mnist", "test")
    fitting, validation = data.train_validation_split(train, 5000, seed=0)
    sweep = {}
    for rate in run.get("rates", RATES):
        sweep[rate] = curve(run, fitting, validation, rate, seed=0)[1][-1]
        print(f"{name}: rate {rate}, validation -ELBO {sweep[rate]:.2f}", flush=True)
    best = min(sweep, key=sweep.__getitem__)
    final, curves = [], []
    for seed in SEEDS:
        # The test images stand in the place of the validation images to record a curve; nothing is chosen by it.
        model, by_epoch = curve(run, train, test, best, seed)
        final.append(-mean_elbo(model, test.images))
        curves.append(by_epoch)
        print(f"{name}: seed {seed}, test -ELBO {final[-1]:.2f}", flush=True)
    device = choose_device()
    return {
        **run,
        "sweep": {"seed": 0, "train": len(fitting), "validation": len(validation), "by_rate": rounded(sweep)},
        "learning_rate": best,
        "seeds": SEEDS,
        "test": rounded(final),
        "mean": round(statistics.mean(final), 3),
        "sd": round(statistics.stdev(final), 3),
        "test_by_epoch": [rounded(by_epoch) for by_epoch in curves],
        **(
            {}
            if run["epochs"] < 10
            else {"published_recipe": {"seed": 0, "test_by_epoch": published(run, train, test)}}
        ),
        "summary": [SUMMARIES[name]],
        "command": f'python -m experiments.measure_mnist "{name}"',
        **shared.provenance(device),
    }


def curve(
    run: dict[str, Any], train: data.ImageData, held_out: data.ImageData, rate: float, seed: int
) -> tuple[VAE, list[float]]:
    """Train as the book does; return the model and the held-out -ELBO after each epoch."""
    model = VAE(784, seed=seed, **run["model"])
    history = fit(
        model,
        train,
        epochs=run["epochs"],
        batch_size=run["batch_size"],
        learning_rate=rate,
        validation=held_out,
        seed=seed,
        progress=False,
    )
    return model, [-value for value in history.validation_elbo]


def published(run: dict[str, Any], train: data.ImageData, test: data.ImageData, seed: int = 0) -> list[float]:
    """Train with the recipe of the published runs: Adam at a constant 1e-3 with its usual betas, and nothing else."""
    model = VAE(784, seed=seed, **run["model"])
    x = model.check(train.images)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    by_epoch = []
    for _ in range(run["epochs"]):
        for rows in torch.randperm(len(x), generator=generator).split(run["batch_size"]):
            loss = -model.elbo(x[rows], generator=generator, check=False).elbo.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        by_epoch.append(-mean_elbo(model, test.images))
    print(f"published recipe, test -ELBO by epoch: {rounded(by_epoch)}", flush=True)
    return rounded(by_epoch)


def rounded(values: Any) -> Any:
    if isinstance(values, dict):
        return {str(key): round(value, 3) for key, value in values.items()}
    return [round(value, 3) for value in values]


def main() -> None:
    evaluation = "grey pixels, not binarised; z sampled once from q(z|x); nats per image"
    for name in shared.chosen(RUNS, shared.read(RESULTS).get("runs", {}), __doc__, choose_device()):
        shared.store(RESULTS, measure(name), "runs", name, evaluation=evaluation)


if __name__ == "__main__":
    main()
