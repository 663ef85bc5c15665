"""Train the models that ship with vaelib, and record how: ``.venv/bin/python tools/train_pretrained.py [NAME ...]``.

Writes vaelib/weights/NAME.safetensors (float16) and NAME.json (command, seed, versions, device, date, test ELBO).
"""

import datetime
import json
import platform
import sys
from pathlib import Path

import torch

import vaelib
from vaelib import checkpoints, data, evaluation, pretrained
from vaelib.training import choose_device, fit
from vaelib.vae import VAE

WEIGHTS = Path(vaelib.__file__).parent / "weights"
SEED = 0
MODELS = {
    # The decoder of the explorer: two dimensions to see, wide enough to draw well.
    "mnist-2d": {"hidden_dims": (500,), "latent_dim": 2, "activation": "tanh", "epochs": 50, "learning_rate": 3e-3},
    "mnist-20d": {"hidden_dims": (400,), "latent_dim": 20, "activation": "relu", "epochs": 20, "learning_rate": 3e-3},
}


def train(name: str) -> None:
    settings = dict(MODELS[name])
    training = {key: settings.pop(key) for key in ("epochs", "learning_rate")}
    train_data, test_data = data.load("mnist"), data.load("mnist", "test")
    model = VAE(784, likelihood="bernoulli", seed=SEED, **settings)
    fit(model, train_data, seed=SEED, device="auto", **training)
    # The rounded weights are what ships, so they are what is measured.
    model.half().float()
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    checkpoints.save(path, model.half(), config=model.config)
    device = choose_device()
    record = {
        "command": f"python tools/train_pretrained.py {name}",
        "settings": {**model.config, **training, "batch_size": 128, "seed": SEED},
        "test_elbo": round(evaluation.test_elbo(pretrained.load(name), test_data.images), 3),
        "evaluation": "10,000 MNIST test images, grey pixels, not binarised, z sampled once, nats per image",
        "bytes": path.stat().st_size,
        "vaelib": vaelib.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "date": datetime.date.today().isoformat(),
    }
    (WEIGHTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{name}: test -ELBO {-record['test_elbo']:.2f}, {record['bytes'] / 1e6:.2f} MB")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or MODELS:
        train(chosen)
