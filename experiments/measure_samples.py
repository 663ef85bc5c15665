"""Measure how good new digits of a VAE and of its rivals are: ``python -m experiments.measure_samples [NAME ...]``.

Question: on the 8x8 digits, does a VAE make better new images than an autoencoder with the same networks whose codes
are drawn from a density fitted to them?

Measures, all three reported wherever they point:
  distance  from a sample to the nearest training image (Euclidean); less is better. It rewards smoothness and copying.
  unsure    the share of samples to which a classifier gives no class 90%; less is better. It knows real digits alone.
  nll       held-out -log p(x), in nats per image, of binary images drawn from the grey test images; less is better. It
            sees missing kinds of images and bad ones alike, and copies don't help it. Exact by quadrature at K = 2; at
            K = 8 importance sampling, which bounds it from above on average.

Rivals: an autoencoder and a regularised one (squared length of the codes and of the decoder's weights charged; Ghosh et
al. 2020), each with codes from N(0, I), from a Gaussian with diagonal and with full covariance, and from a mixture of
Gaussians; the VAE's own decoder with such densities fitted to draws from its q(z) in the place of its prior; no latent
variable (independent pixels); a mixture of Bernoullis, which has no network.

Same chance: each of the three networks is tuned over 12 settings, on 300 of the 1,500 training images held out, by nll;
the components of both mixtures are chosen so too. Then each is trained on all 1,500, with five seeds.

Yes, for one measure: the paired difference between the VAE with its prior and the best autoencoder with the best
density by that measure exceeds 2.8 standard errors over the five seeds (97.5% point of t with 4 degrees of freedom).
In between: not decided. The same is asked of the VAE's decoder with a fitted mixture. Calibration: the same measures on
test images, black and mean images, noise, copies, reconstructions, blurred samples.

Added after the first tuning was seen: each network's best setting had the most epochs of its grid, so each got two
longer runs at its best setting ("longer"), which count where they are better. At K = 2 the settings of K = 8 are used.
"chapter" compares the VAE and the plain autoencoder at the settings of chapter 7, tuned for neither, with five seeds.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, distributions, nn
from torch.nn.functional import conv2d, cross_entropy

from experiments import shared
from vaelib import data
from vaelib.distributions import bernoulli_log_prob
from vaelib.networks import mlp
from vaelib.training import fit
from vaelib.vae import VAE

RESULTS = shared.results("samples")
SEEDS = (0, 1, 2, 3, 4)
TUNING_SEED = 100
HIDDEN = [128]
LATENT_DIMS = (8, 2)
HELD_OUT = 300
SAMPLES = 1000
CHAPTER = {"learning_rate": 5e-3, "epochs": 100}
COMPONENTS = (2, 5, 10, 20, 50)
PIXEL_COMPONENTS = (10, 20, 50, 100, 200)
# Twelve settings for each network.
PLAIN = [{"learning_rate": rate, "epochs": epochs} for rate in (2e-3, 5e-3, 1e-2, 2e-2) for epochs in (50, 100, 200)]
GRIDS: dict[str, list[dict[str, float]]] = {
    "vae": PLAIN,
    "autoencoder": PLAIN,
    "regularised": [
        {"learning_rate": 5e-3, "epochs": epochs, "code_weight": code, "decay": decay}
        for epochs in (50, 100, 200)
        for code in (0.01, 0.1)
        for decay in (1e-3, 1e-2)
    ],
}
LONGER: dict[str, list[dict[str, float]]] = {
    "vae": [{"learning_rate": 2e-2, "epochs": n} for n in (400, 800)],
    "autoencoder": [{"learning_rate": 5e-3, "epochs": n} for n in (400, 800)],
    "regularised": [{"learning_rate": 5e-3, "epochs": n, "code_weight": 0.01, "decay": 1e-3} for n in (400, 800)],
}
ONE_SEED = [
    {
        "question": "What -log p(x) do unseen digits get from a VAE and from autoencoders with fitted codes?",
        "result": "VAE {measures[vae: N(0, I)][2]:.2f}, autoencoder with a Gaussian "
        "{measures[autoencoder: full][2]:.2f}, with a mixture {measures[autoencoder: mixture][2]:.2f} nats",
        "error": "none: one seed",
    }
]
SMOOTH = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0])) / 16

Density = distributions.Distribution
# What the index of experiments says of a comparison; the fields are looked up in what is stored.
SUMMARY = [
    {
        "question": "Does a VAE give new digits a higher likelihood than an autoencoder with fitted codes?",
        "result": "-log p(x), VAE minus the best autoencoder: {differences[prior][nll][difference]:+.2f} nats; "
        "the VAE's decoder with a fitted mixture: {differences[mixture][nll][difference]:+.2f}",
        "error": "{differences[prior][nll][standard error]:.2f}, {differences[mixture][nll][standard error]:.2f} "
        "(paired, over seeds)",
    },
    {
        "question": "Are a VAE's samples better than the best autoencoder's, by distance and by a classifier?",
        "result": "distance {differences[prior][distance][difference]:+.3f}, "
        "share unsure {differences[prior][unsure][difference]:+.3f}",
        "error": "{differences[prior][distance][standard error]:.3f}, {differences[prior][unsure][standard error]:.3f} "
        "(paired, over seeds)",
    },
]


def train(kind: str, images: Tensor, latent_dim: int, seed: int, setting: dict[str, float]) -> VAE:
    """Return a VAE, or the same networks trained as an autoencoder on the same log-likelihood."""
    model = VAE(images.shape[1], HIDDEN, latent_dim, seed=seed)
    objective = None if kind == "vae" else deterministic(setting.get("code_weight", 0.0), setting.get("decay", 0.0))
    fit(model, images, epochs=int(setting["epochs"]), learning_rate=setting["learning_rate"], objective=objective,
        seed=seed, device="cpu", progress=False)  # fmt: skip
    return model


def deterministic(code_weight: float, decay: float) -> Callable[..., Tensor]:
    """Return an autoencoder's objective: z is the encoder's mean; long codes and large decoder weights are charged."""

    def objective(model: Any, x: Tensor, y: Any, step: int, generator: torch.Generator | None) -> Tensor:
        z = model.encoder(x)[:, : model.latent_dim]
        charged = code_weight / 2 * z.square().sum(1)
        if decay:
            charged = charged + decay / 2 * sum(weight.square().sum() for weight in model.decoder.parameters())
        return model.log_likelihood(x, model.decode(z)) - charged

    return objective


@torch.no_grad()
def densities(model: VAE, images: Tensor, components: int, noisy: bool) -> dict[str, Density]:
    """Return what codes may be drawn from: the prior, or what is fitted to the codes of the training images."""
    codes = codes_of(model, images, noisy)
    mean, covariance = codes.mean(0), torch.cov(codes.T)
    return {
        "N(0, I)": normal(torch.zeros_like(mean), torch.eye(len(mean))),
        "diagonal": normal(mean, torch.diag(covariance.diagonal())),
        "full": normal(mean, covariance),
        "mixture": mixture(codes, components),
    }


@torch.no_grad()
def codes_of(model: VAE, images: Tensor, noisy: bool) -> Tensor:
    """Return the codes of the images: an autoencoder's are points, a VAE's are drawn, five for each image."""
    mu, log_var = model.encode(images)
    if not noisy:
        return mu
    eps = torch.randn(5, *mu.shape, generator=torch.Generator().manual_seed(0))
    return (mu + (0.5 * log_var).exp() * eps).flatten(0, 1)


def normal(mean: Tensor, covariance: Tensor) -> Density:
    ridge = 1e-6 * covariance.diagonal().mean() * torch.eye(len(mean))
    return distributions.MultivariateNormal(mean, covariance + ridge, validate_args=False)


def mixture(codes: Tensor, components: int) -> Density:
    """Return a mixture of Gaussians with full covariances, fitted by expectation-maximisation (scikit-learn)."""
    scale = codes.std(0).clamp_min(1e-6)
    fitted = GaussianMixture(components, reg_covar=1e-3, n_init=2, max_iter=200, random_state=0)
    fitted.fit((codes / scale).double().numpy())
    weights, means, covariances = (torch.tensor(value).float() for value in
                                   (fitted.weights_, fitted.means_, fitted.covariances_))  # fmt: skip
    each = distributions.MultivariateNormal(means * scale, covariances * torch.outer(scale, scale), validate_args=False)
    chosen = distributions.Categorical(weights, validate_args=False)
    return distributions.MixtureSameFamily(chosen, each, validate_args=False)


def draw(density: Density, n: int, seed: int) -> Tensor:
    """Draw codes; torch's distributions know no generator of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return density.sample((n,))


def minus_log_p(model: VAE, prior: Density, x: Tensor, starts: Tensor, n: int = 1000, steps: int = 200) -> Tensor:
    """Return -log p(x) of binary images under codes from `prior`, estimated with n weighted codes: ``(batch,)``.

    For each image the Gaussian proposal is fitted to the posterior by `steps` steps on the bound, from the encoder's
    mean, the same for every model; then n codes are drawn from a mixture of it, a wider one, and the prior itself.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        whole = draw(prior, 5000, 0)
        centre, root = whole.mean(0), torch.linalg.cholesky(torch.cov(whole.T) + 1e-6 * torch.eye(whole.shape[1]))
        mean = torch.linalg.solve_triangular(root, (starts - centre).T, upper=False).T.clone()
    k = mean.shape[1]
    mean.requires_grad_()
    log_diagonal = torch.full_like(mean, math.log(0.3)).requires_grad_()
    below = torch.zeros(len(x), k, k, requires_grad=True)
    optimizer = torch.optim.Adam([mean, log_diagonal, below], lr=0.05)

    def scale() -> Tensor:
        return below.tril(-1) + torch.diag_embed(log_diagonal.exp())

    def joint(z: Tensor) -> Tensor:
        return bernoulli_log_prob(x, model.decode(z), check=False) + prior.log_prob(z)

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for _ in range(steps):
        eps = torch.randn(4, len(x), k, generator=generator)
        u = mean + torch.einsum("bij,nbj->nbi", scale(), eps)
        loss = -(joint(centre + u @ root.T).mean(0) + log_diagonal.sum(1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        narrow, shares = scale(), (0.5, 0.4, 0.1)
        in_z = centre + mean @ root.T
        scales = [root @ narrow, root @ (1.5 * narrow)]
        parts: list[Density] = [
            distributions.MultivariateNormal(in_z, scale_tril=s, validate_args=False) for s in scales
        ]
        draws = [draw(part, round(share * n), 1) for share, part in zip(shares, parts, strict=False)]
        draws.append(draw(prior, round(shares[2] * n) * len(x), 2).reshape(-1, len(x), k))
        weights = []
        for z in torch.cat(draws).split(250):
            log_q = torch.stack([math.log(share) + part.log_prob(z)
                                 for share, part in zip(shares, [*parts, prior], strict=True)])  # fmt: skip
            weights.append(joint(z) - log_q.logsumexp(0))
        return math.log(n) - torch.cat(weights).logsumexp(0)


@torch.no_grad()
def minus_log_p_on_grid(model: VAE, prior: Density, x: Tensor, n: int = 301) -> Tensor:
    """Return -log p(x) under two-dimensional codes from `prior`, by quadrature over its draws' whole range."""
    whole = draw(prior, 5000, 0)
    spread = whole.amax(0) - whole.amin(0)
    low, high = whole.amin(0) - 0.3 * spread, whole.amax(0) + 0.3 * spread
    axes = [torch.linspace(float(a), float(b), n) for a, b in zip(low, high, strict=True)]
    z = torch.cartesian_prod(*axes)
    log_cell = math.log(float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])))
    logits = model.decode(z)
    # log p(x|z) of all pairs is one product of matrices: x . logits - sum log(1 + e^logits)
    log_likelihood = x @ logits.T - nn.functional.softplus(logits).sum(1)
    return -(log_likelihood + prior.log_prob(z) + log_cell).logsumexp(1)


def held_out(model: VAE, prior: Density, grey: Tensor, binary: Tensor) -> Tensor:
    """Return -log p of the binary images, exactly where the codes have two dimensions: ``(batch,)``."""
    if model.latent_dim == 2:
        return minus_log_p_on_grid(model, prior, binary)
    with torch.no_grad():
        starts = model.encode(grey).mu
    return minus_log_p(model, prior, binary, starts)


def mixture_of_bernoullis(images: Tensor, components: int, seed: int, steps: int = 100) -> tuple[Tensor, Tensor]:
    """Return log weights ``(C,)`` and logits ``(C, D)`` of a mixture of independent pixels, fitted by EM."""
    pick = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:components]
    # One count more of on and of off, of the mean image, keeps every probability inside (0, 1).
    mean = images.mean(0).clamp(1e-3, 1 - 1e-3)
    probability = (0.5 * images[pick] + 0.5 * mean).clamp(1e-3, 1 - 1e-3)
    log_weight = torch.full((components,), -math.log(components))
    for _ in range(steps):
        log_joint = log_weight + images @ torch.logit(probability).T + torch.log1p(-probability).sum(1)
        share = log_joint.softmax(1)
        count = share.sum(0)
        probability = ((share.T @ images + mean) / (count[:, None] + 1)).clamp(1e-4, 1 - 1e-4)
        log_weight = (count + 1e-3).log() - (count + 1e-3).sum().log()
    return log_weight, torch.logit(probability)


def pixels_minus_log_p(log_weight: Tensor, logits: Tensor, x: Tensor) -> Tensor:
    """Return -log p(x) under a mixture of Bernoullis; one component is no latent variable at all."""
    return -(log_weight + x @ logits.T - nn.functional.softplus(logits).sum(1)).logsumexp(1)


def train_classifier(images: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Return the classifier of chapter 6."""
    network = mlp((images.shape[1], 128, 10), generator=torch.Generator().manual_seed(seed))

    def log_likelihood(network: Any, x: Tensor, y: Any, step: int, generator: Any) -> Tensor:
        return -cross_entropy(network(x), y, reduction="none")

    fit(network, images, y=labels, epochs=30, learning_rate=5e-3, objective=log_likelihood, seed=seed, device="cpu",
        progress=False)  # fmt: skip
    return network


@torch.no_grad()
def looks(images: Tensor, training: Tensor, classifier: nn.Module) -> list[float]:
    """Return distance and unsure, the first two measures."""
    distance = torch.cdist(images, training).amin(1).mean().item()
    unsure = (classifier(images).softmax(1).amax(1) < 0.9).float().mean().item()
    return [round(distance, 4), round(unsure, 4)]


def blurred(images: Tensor) -> Tensor:
    side = math.isqrt(images.shape[1])
    return conv2d(images.reshape(-1, 1, side, side), SMOOTH[None, None], padding=1).flatten(1)


def binarised(images: Tensor, seed: int) -> Tensor:
    return torch.bernoulli(images, generator=torch.Generator().manual_seed(seed))


def tune(latent_dim: int, grids: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return, for each network, the nll of every setting on held-out training images, and what was chosen."""
    images = data.load("digits").images.flatten(1)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(TUNING_SEED))
    held, rest = images[order[:HELD_OUT]], images[order[HELD_OUT:]]
    binary, found = binarised(held, TUNING_SEED), {}
    for kind, settings in grids.items():
        tried: list[dict[str, Any]] = []
        best: dict[str, Any] = {}
        for setting in settings:
            model = train(kind, rest, latent_dim, TUNING_SEED, setting)
            priors = densities(model, rest, 10, kind == "vae")
            chosen = ["N(0, I)"] if kind == "vae" else ["full", "mixture"]
            nll = {name: round(held_out(model, priors[name], held, binary).mean().item(), 3) for name in chosen}
            tried.append({**setting, "nll": nll})
            print(kind, tried[-1], flush=True)
            if not best or min(nll.values()) < min(best["nll"].values()):
                best, best_model = tried[-1], model
        part: dict[str, Any] = {"tried": tried, "setting": {k: v for k, v in best.items() if k != "nll"}}
        codes = codes_of(best_model, rest, kind == "vae")
        by_count = {n: held_out(best_model, mixture(codes, n), held, binary).mean() for n in COMPONENTS}
        part["components"] = min(by_count, key=lambda n: by_count[n].item())
        part["nll by components"] = {str(n): round(value.item(), 3) for n, value in by_count.items()}
        found[kind] = part
    by_count = {n: pixels_minus_log_p(*mixture_of_bernoullis(rest, n, TUNING_SEED), binary).mean()
                for n in PIXEL_COMPONENTS}  # fmt: skip
    found["mixture of Bernoullis"] = {
        "components": min(by_count, key=lambda n: by_count[n].item()),
        "nll by components": {str(n): round(value.item(), 3) for n, value in by_count.items()},
    }
    return {"latent_dim": latent_dim, "held out": HELD_OUT, "seed": TUNING_SEED, **found}


def tuned(stored: dict[str, Any]) -> dict[str, Any]:
    """Return what was chosen, the longer runs where they were better."""
    found = dict(stored["tuning"])
    for kind in GRIDS:
        part = stored.get(f"longer {kind}", {}).get(kind)
        if part and best_nll(part) < best_nll(found[kind]):
            found[kind] = part
    return found


def best_nll(part: dict[str, Any]) -> float:
    return min(value for setting in part["tried"] for value in setting["nll"].values())


def compare(tuning: dict[str, Any], k: int, seed: int) -> dict[str, Any]:
    """Return all three measures of all models of one seed: ``{name: [distance, unsure, nll]}``, nll may be None."""
    train_set, test_set = data.load("digits"), data.load("digits", "test")
    x, x_test = train_set.images.flatten(1), test_set.images.flatten(1)
    binary = binarised(x_test, seed)
    classifier = train_classifier(x, train_set.labels, seed)
    found: dict[str, list[float | None]] = {}

    def add(name: str, images: Tensor, nll: Tensor | None = None) -> None:
        value = None if nll is None else round(nll.mean().item(), 3)
        found[name] = [*looks(images, x, classifier), value]
        print(seed, name, found[name], flush=True)

    noise = torch.rand(SAMPLES, x.shape[1], generator=torch.Generator().manual_seed(seed))
    add("test images", x_test)
    add("test images, blurred", blurred(x_test))
    add(
        "copies of training images", x[torch.randint(len(x), (SAMPLES,), generator=torch.Generator().manual_seed(seed))]
    )
    add("black image", torch.zeros(1, x.shape[1]))
    add("noise", noise)
    mean_logits = torch.logit(x.mean(0), eps=1e-3)[None]
    add(
        "mean image (no latent variable)",
        x.mean(0, keepdim=True),
        pixels_minus_log_p(torch.zeros(1), mean_logits, binary),
    )
    log_weight, logits = mixture_of_bernoullis(x, tuning["mixture of Bernoullis"]["components"], seed)
    picked = torch.multinomial(log_weight.exp(), SAMPLES, True, generator=torch.Generator().manual_seed(seed))
    add("mixture of Bernoullis", torch.sigmoid(logits[picked]), pixels_minus_log_p(log_weight, logits, binary))
    for kind in GRIDS:
        model = train(kind, x, k, seed, tuning[kind]["setting"])
        priors = densities(model, x, tuning[kind]["components"], kind == "vae")
        add(f"{kind}: reconstructions", model.reconstruct(x_test))
        for name, prior in priors.items():
            with torch.no_grad():
                images = model.mean(model.decode(draw(prior, SAMPLES, seed)))
            add(f"{kind}: {name}", images, held_out(model, prior, x_test, binary))
            if name in ("N(0, I)", "mixture"):
                add(f"{kind}: {name}, blurred", blurred(images))
    return found


def as_in_chapter(seed: int) -> dict[str, Any]:
    """Return the measures of the two networks of chapter 7 at its settings, trained with one seed."""
    train_set, test_set = data.load("digits"), data.load("digits", "test")
    x, x_test = train_set.images.flatten(1), test_set.images.flatten(1)
    binary, classifier = binarised(x_test, seed), train_classifier(x, train_set.labels, seed)
    found: dict[str, list[float]] = {}
    for kind, chosen in {"vae": ("N(0, I)", "mixture"), "autoencoder": ("full", "mixture")}.items():
        model = train(kind, x, 8, seed, CHAPTER)
        priors = densities(model, x, 10, kind == "vae")
        for name in chosen:
            with torch.no_grad():
                images = model.mean(model.decode(draw(priors[name], SAMPLES, seed)))
            nll = round(held_out(model, priors[name], x_test, binary).mean().item(), 3)
            found[f"{kind}: {name}"] = [*looks(images, x, classifier), nll]
            print(seed, kind, name, found[f"{kind}: {name}"], flush=True)
    return found


def differences(by_seed: list[dict[str, Any]]) -> dict[str, Any]:
    """Return, for each measure, the autoencoder with the best mean, and the VAE minus it: mean and standard error."""
    rivals = [name for name in by_seed[0] if name.partition(":")[0] in ("autoencoder", "regularised")
              and not name.endswith(("reconstructions", "blurred"))]  # fmt: skip
    found: dict[str, Any] = {}
    for density, ours in {"prior": "vae: N(0, I)", "mixture": "vae: mixture"}.items():
        found[density] = {}
        for which, measure in enumerate(("distance", "unsure", "nll")):
            table = {name: torch.tensor([run[name][which] for run in by_seed]) for name in [*rivals, ours]}
            best = min(rivals, key=lambda name: table[name].mean().item())
            lead = table[ours] - table[best]
            error, mean = (lead.std() / len(lead) ** 0.5).item(), lead.mean().item()
            verdict = "not decided" if abs(mean) < 2.8 * error else "VAE better" if mean < 0 else "rival better"
            found[density][measure] = {"best rival": best, "difference": round(mean, 4),
                                    "standard error": round(error, 4), "verdict": verdict}  # fmt: skip
    return found


def main() -> None:
    runs = {f"K={k} seed {seed}": (k, seed) for k in LATENT_DIMS for seed in SEEDS}
    parts = ["chapter", "tuning", *(f"longer {kind}" for kind in GRIDS), *runs, *(f"K={k}" for k in LATENT_DIMS)]
    for name in shared.chosen(parts, shared.read(RESULTS), __doc__):
        start, stored = time.process_time(), shared.read(RESULTS)
        if name == "chapter":
            by_seed = [as_in_chapter(seed) for seed in SEEDS]
            found = {"seeds": list(SEEDS), "samples": SAMPLES, "setting": CHAPTER, "summary": SUMMARY, "runs": by_seed,
                     "differences": differences(by_seed)}  # fmt: skip
        elif name == "tuning":
            found = tune(LATENT_DIMS[0], GRIDS)
        elif name.startswith("longer"):
            kind = name.removeprefix("longer ")
            found = tune(LATENT_DIMS[0], {kind: LONGER[kind]})
        elif name in runs:
            k, seed = runs[name]
            found = {"seed": seed, "measures": compare(tuned(stored), k, seed)}
            if (k, seed) == (LATENT_DIMS[0], SEEDS[0]):
                found["summary"] = ONE_SEED
        else:
            by_seed = [stored[f"{name} seed {seed}"] for seed in SEEDS]
            minutes = round(sum(run["minutes"] for run in by_seed), 1)
            found = {"seeds": list(SEEDS), "samples": SAMPLES, "summary": SUMMARY, "cpu_minutes": minutes,
                     "differences": differences([run["measures"] for run in by_seed])}  # fmt: skip
        found |= {
            "minutes": round((time.process_time() - start) / 60, 1),
            "command": f'python -m experiments.measure_samples "{name}"',
            **shared.provenance(),
        }
        shared.store(RESULTS, found, name, question=(__doc__ or "").partition("\n\n")[2])


if __name__ == "__main__":
    main()
