"""Measure whether deeper VAEs are better on small digits: ``python -m experiments.measure_depth [PART ...]``.

Writes book/results/depth.json. Written before this script was first run:

Question. Does a VAE with more hidden layers in encoder and decoder reach a higher log evidence of test images? First
runs of chapter 18, with 300 or 400 steps and tanh, said that one layer is better than none and four are worse than one.
Trials with three seeds then said that four are ahead after 1,600 steps. So length of training and activation are varied
here.
Measure: log evidence of the 297 test images of the 8x8 digits (black and white pixels, drawn once), two latent
dimensions, by quadrature on a grid; differences paired over five seeds, with 95% intervals by Student's t.
Rivals. One wide layer with as many weights as four; fewer layers; the other activation.
The same chance. For each network, activation and length the learning rate is chosen from RATES by 300 other images;
where the best is the highest or the lowest, one beyond it is tried as well. All models have the same batches and noise.
Yes: the interval of the difference lies above zero. An interval that holds zero is "not decided".
Added later: the part "rising", after the parts "tanh" and "relu" were known and after single trainings in which four
layers had lost where a latent dimension collapsed. Question: is collapse early in training the cause? Intervention:
the weight of the KL rises from 0 to 1 over the first half of 1,200 steps; all else as before, rates chosen again for
each network. Yes: four minus one rises (paired by seed) and dimensions below DEAD nats get fewer.

The five seeds and all rates are trained side by side. With OMP_NUM_THREADS=1 an activation takes about four minutes.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import softplus

from experiments import shared
from vaelib import data
from vaelib.distributions import bernoulli_log_prob, gaussian_log_prob, kl_standard_normal
from vaelib.vae import VAE

RESULTS = shared.results("depth")
SEEDS = [0, 1, 2, 3, 4]
RATES = [0.003, 0.01, 0.03, 0.1]
STEPS = [300, 1200]
RISE = 0.5  # the share of the steps over which the weight of the KL rises in the part "rising"
DEAD = 0.1  # nats: a latent dimension with a smaller mean KL counts as collapsed
BATCH = 100
SHAPES: dict[str, tuple[int, ...]] = {
    "none": (),
    "one": (64,),
    "two": (64,) * 2,
    "four": (64,) * 4,
    "one, as large as four": (244,),
}
T = {3: 4.303, 5: 2.776}  # Student's t, 97.5%, for so many numbers
Images = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def images() -> Images:
    """Return the digits to train on (1,200), to choose by (300), and for the test, black and white."""
    generator = torch.Generator().manual_seed(0)
    bits = data.binarize(data.load("digits").images.flatten(1), generator)
    return bits[:1200], bits[1200:], data.binarize(data.load("digits", "test").images.flatten(1), generator)


def train(
    shape: tuple[int, ...],
    activation: Any,
    rates: list[float],
    seeds: list[int],
    steps: int,
    x: torch.Tensor,
    rise: float = 0.0,
) -> list[list[VAE]]:
    """Return a model for each rate and seed, trained side by side: a model is what it would be alone."""
    models = [VAE(x.shape[1], shape, 2, activation=activation, seed=seed) for _ in rates for seed in seeds]
    for model in models:
        model.start_at_mean(x)
    states, (encode, decode) = stacked(models)
    parameters = [p for state in states for p in state.values()]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    peak = torch.tensor([rate for rate in rates for _ in seeds])
    sources = [torch.Generator().manual_seed(seed) for seed in seeds]
    for t in range(1, steps + 1):
        rows = torch.stack([torch.randint(len(x), (BATCH,), generator=each) for each in sources])
        eps = torch.stack([torch.randn(BATCH, 2, generator=each) for each in sources])
        batch, eps = x[rows].repeat(len(rates), 1, 1), eps.repeat(len(rates), 1, 1)
        mu, log_var = encode(states[0], batch).chunk(2, -1)
        logits = decode(states[1], mu + torch.exp(0.5 * log_var) * eps)
        weight = min(1.0, t / (rise * steps)) if rise else 1.0
        loss = weight * kl_standard_normal(mu, log_var) - bernoulli_log_prob(batch, logits, check=False)
        loss.mean(1).sum().backward()
        _adam(parameters, moments, t, peak * min(1, 10 * t / steps, (1 - t / steps) / 0.9))
    unstacked(models, states)
    return [models[k : k + len(seeds)] for k in range(0, len(models), len(seeds))]


def stacked(models: list[VAE]) -> tuple[list[dict[str, Any]], list[Callable[..., torch.Tensor]]]:
    """Return the weights of all encoders and of all decoders, stacked, and both as functions of such weights."""
    stacks = [[model.encoder for model in models], [model.decoder for model in models]]
    return [stack_module_state(stack)[0] for stack in stacks], [_side_by_side(stack[0]) for stack in stacks]


def unstacked(models: list[VAE], states: list[dict[str, Any]]) -> None:
    """Put stacked weights back into their models."""
    with torch.no_grad():
        for i, model in enumerate(models):
            for network, state in zip((model.encoder, model.decoder), states, strict=True):
                for name, p in network.named_parameters():
                    p.copy_(state[name][i])


def _side_by_side(network: torch.nn.Module) -> Any:
    return vmap(lambda state, x: functional_call(network, state, (x,)))


@torch.no_grad()
def _adam(parameters: list[Any], moments: list[tuple[torch.Tensor, torch.Tensor]], t: int, rates: torch.Tensor) -> None:
    for p, (first, second) in zip(parameters, moments, strict=True):
        first.lerp_(p.grad, 0.1)
        second.lerp_(p.grad.square(), 0.001)
        size = (second / (1 - 0.999**t)).sqrt() + 1e-8
        p.sub_(rates.reshape(-1, *[1] * (p.ndim - 1)) * first / (1 - 0.9**t) / size)
        p.grad = None


@torch.no_grad()
def log_evidence(model: VAE, x: torch.Tensor, points: int = 71) -> float:
    """Return the mean log p(x) over images, by quadrature over the plane of codes."""
    line = torch.linspace(-4.8, 4.8, points)
    z = torch.cartesian_prod(line, line)
    logits = model.decode(z)
    log_joint = x @ logits.T - softplus(logits).sum(1) + gaussian_log_prob(z, torch.zeros_like(z), 0.0)
    return float(log_joint.logsumexp(1).mean() + 2 * (line[1] - line[0]).log())


@torch.no_grad()
def smallest_kl(model: VAE, x: torch.Tensor) -> float:
    """Return the mean KL of the latent dimension that carries least."""
    mu, log_var = model.encode(x)
    return float((0.5 * (mu**2 + log_var.exp() - 1 - log_var)).mean(0).min())


def measure(
    name: str,
    activation: str,
    steps: int,
    found: Images,
    seeds: list[int],
    rates: list[float] | None = None,
    rise: float = 0.0,
) -> dict[str, Any]:
    """Choose the rate of a network by other images, and return the test's log evidence of each seed."""
    fitting, choosing, test = found
    tried: dict[float, list[VAE]] = {}
    rates = list(rates or RATES)
    edges = {max(rates): 3 * max(rates), min(rates): min(rates) / 3}
    while rates:
        tried |= dict(zip(rates, train(SHAPES[name], activation, rates, seeds, steps, fitting, rise), strict=True))
        by_rate = {r: statistics.mean(log_evidence(m, choosing) for m in models) for r, models in tried.items()}
        best = max(by_rate, key=by_rate.__getitem__)
        rates = [edges.pop(best)] if best in edges else []
    return {
        "weights": sum(p.numel() for p in tried[best][0].parameters()),
        "choosing": {f"{rate:.4g}": round(value, 3) for rate, value in sorted(by_rate.items())},
        "rate": round(best, 5),
        "test": [round(log_evidence(model, test), 3) for model in tried[best]],
        "training": [round(log_evidence(model, fitting[:300]), 3) for model in tried[best]],
        "smallest_kl": [round(smallest_kl(model, fitting), 3) for model in tried[best]],
    }


def difference(one: list[float], other: list[float]) -> dict[str, float]:
    """Return the mean of paired differences and half of its 95% interval."""
    pairs = [a - b for a, b in zip(one, other, strict=True)]
    half = T[len(pairs)] * statistics.stdev(pairs) / len(pairs) ** 0.5
    return {"mean": round(statistics.mean(pairs), 3), "half": round(half, 3)}


def part(activation: str, found: Images, seeds: list[int]) -> dict[str, Any]:
    """Measure all networks with this activation at both lengths."""
    began = time.process_time()
    networks: dict[str, Any] = {}
    for steps in STEPS:
        networks[str(steps)] = {}
        for name in SHAPES:
            networks[str(steps)][name] = one = measure(name, activation, steps, found, seeds)
            print(activation, steps, name, one, flush=True)
    differences = {
        steps: {
            f"{a} minus {b}": difference(group[a]["test"], group[b]["test"])
            for a, b in (("one", "none"), ("two", "one"), ("four", "one"), ("four", "one, as large as four"))
        }
        for steps, group in networks.items()
    }
    return {
        "seeds": seeds,
        "cpu_minutes": round((time.process_time() - began) / 60, 2),
        "command": f"python -m experiments.measure_depth {activation}",
        "provenance": shared.provenance(),
        "summary": [
            {
                "question": f"Are four hidden layers better than one ({activation}; {steps} steps)?",
                "result": f"by {{differences[{steps}][four minus one][mean]:+.2f}} nats of log evidence",
                "error": f"{{differences[{steps}][four minus one][half]:.2f}} (95%, over seeds)",
            }
            for steps in STEPS
        ],
        "differences": differences,
        "networks": networks,
    }


def rising(found: Images, seeds: list[int], steps: int = STEPS[-1]) -> dict[str, Any]:
    """Measure one layer and four with a rising weight of the KL, beside the stored rates with the whole weight."""
    began = time.process_time()
    kinds: dict[str, Any] = {}
    for activation in ("tanh", "relu"):
        stored = shared.read(RESULTS)["parts"][activation]["networks"][str(steps)]
        one: dict[str, Any] = {"whole": {}, "rising": {}}
        kinds[activation] = one
        for name in ("one", "four"):
            one["rising"][name] = measure(name, activation, steps, found, seeds, rise=RISE)
            rate = stored[name]["rate"]
            [models] = train(SHAPES[name], activation, [rate], seeds, steps, found[0])
            one["whole"][name] = {
                "rate": rate,
                "test": [round(log_evidence(model, found[2]), 3) for model in models],
                "smallest_kl": [round(smallest_kl(model, found[0]), 3) for model in models],
            }
            print(activation, name, {weight: group[name] for weight, group in one.items()}, flush=True)
        lead = {w: [a - b for a, b in zip(g["four"]["test"], g["one"]["test"], strict=True)] for w, g in one.items()}
        one["differences"] = {
            **{f"four minus one, {w}": difference(one[w]["four"]["test"], one[w]["one"]["test"]) for w in lead},
            "by how much the lead of four rises": difference(lead["rising"], lead["whole"]),
        }
        print(activation, one["differences"], flush=True)
    return {
        "seeds": seeds,
        "cpu_minutes": round((time.process_time() - began) / 60, 2),
        "command": "python -m experiments.measure_depth rising",
        "provenance": shared.provenance(),
        "summary": [
            {
                "question": f"Are four hidden layers better than one ({kind}) where the weight of the KL rises?",
                "result": f"by {{kinds[{kind}][differences][four minus one, rising][mean]:+.2f}} nats of log evidence",
                "error": f"{{kinds[{kind}][differences][four minus one, rising][half]:.2f}} (95%, over seeds)",
            }
            for kind in kinds
        ],
        "kinds": kinds,
    }


HEAD = {
    "question": "Do more hidden layers give a VAE of small digits a higher log evidence of test images?",
    "rivals": "one wide layer with as many weights as four; fewer layers; the other activation",
    "tuning": "for each network, activation and length a rate from 0.003, 0.01, 0.03, 0.1, and one beyond the edge "
    "where the best is at the edge, by 300 images that are left out of training",
    "evaluation": "log evidence of 297 digits, black and white, by quadrature on 71 x 71 codes",
    "command": "python -m experiments.measure_depth",
}


def main() -> None:
    for name in shared.chosen(["tanh", "relu", "rising"], shared.read(RESULTS).get("parts", {}), __doc__):
        done = rising(images(), SEEDS) if name == "rising" else part(name, images(), SEEDS)
        shared.store(RESULTS, done, "parts", name, **HEAD)


if __name__ == "__main__":
    main()
