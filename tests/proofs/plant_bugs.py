"""Plant one mistake at a time in a copy of vaelib, and see which unit tests and which chapters notice.

`python tests/proofs/plant_bugs.py [NUMBER ...]` prints a table and exits 1 where a mistake
passes the unit tests or every chapter named beside it. The working tree is never touched. All of them take about ten
minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Bug(NamedTuple):
    """What is replaced, in which module, and the chapters that should notice."""

    name: str
    module: str
    right: str
    wrong: str
    chapters: tuple[str, ...]


KL = "0.5 * (mu.square() + torch.expm1(log_var) - log_var).sum(-1)"
BUGS = (
    Bug("KL: sign of log sigma^2", "distributions", KL, KL.replace("- log_var", "+ log_var"), ("01", "07")),
    Bug("KL: factor 1/2 missing", "distributions", KL, KL.removeprefix("0.5 * "), ("01", "07")),
    Bug("KL: mean over latent dimensions", "distributions", KL, KL.replace(".sum", ".mean"), ("01", "07")),
    Bug(
        "KL(q || p): arguments swapped",
        "distributions",
        "_held(_held(log_var_q) - log_var_p)",
        "_held(log_var_p - _held(log_var_q))",
        ("01",),
    ),
    Bug(
        "KL(q || p): distance in units of sigma_q",
        "distributions",
        "(mu_q - mu_p) * torch.exp(-0.5 * log_var_p)",
        "(mu_q - mu_p) * torch.exp(-0.5 * log_var_q)",
        ("01",),
    ),
    Bug(
        "Gaussian: log 2 pi missing",
        "distributions",
        "(LOG_2PI + log_var + distance",
        "(log_var + distance",
        ("01", "07"),
    ),
    Bug(
        "Gaussian: log variance taken for log sigma",
        "distributions",
        "distance = (x - mu) * torch.exp(-0.5 * log_var)",
        "distance = (x - mu) * torch.exp(-log_var)",
        ("01", "07"),
    ),
    Bug(
        "Bernoulli: mean over pixels",
        "distributions",
        'reduction="none").sum(-1)',
        'reduction="none").mean(-1)',
        ("07",),
    ),
    Bug(
        "sample: log variance taken for log sigma",
        "distributions",
        "mu + torch.exp(0.5 *",
        "mu + torch.exp(1.0 *",
        ("04", "07"),
    ),
    Bug(
        "sample: noise scaled by 0.01",
        "distributions",
        "* standard_normal(shape",
        "* 0.01 * standard_normal(shape",
        ("04", "07"),
    ),
    Bug(
        "ELBO: KL added",
        "contract",
        "return self.log_likelihood - self.kl",
        "return self.log_likelihood + self.kl",
        ("07",),
    ),
    Bug(
        "posterior: sigma for sigma^2",
        "exact",
        "self._centred(x) @ self.weight / self.sigma**2",
        "self._centred(x) @ self.weight / self.sigma",
        ("02", "03"),
    ),
    Bug("evidence: determinant missing", "exact", "+ log_det + square", "+ square", ("02", "03")),
    Bug("ring: z / 10 taken for z / 5", "data", "return z / 10", "return z / 5", ("02",)),
    Bug(
        "perceptron: the rule's sign",
        "perceptron",
        "error = target - int(point @ weights > 0)",
        "error = int(point @ weights > 0) - target",
        ("05",),
    ),
    Bug(
        "importance weights: inverted",
        "vae",
        "return log_joint - gaussian_log_prob(z, mu, log_var)",
        "return gaussian_log_prob(z, mu, log_var) - log_joint",
        ("10",),
    ),
    Bug(
        "importance weights: prior missing",
        "vae",
        "self._decoded(z, y)) + gaussian_log_prob(z, *prior)",
        "self._decoded(z, y))",
        ("10",),
    ),
    Bug("log evidence: log S missing", "evaluation", "total - math.log(n_samples)", "total", ("10",)),
    Bug("log evidence: mean for logsumexp", "evaluation", "torch.logsumexp(log_w, 0)", "log_w.mean(0)", ("10",)),
    Bug(
        "log evidence: every part as long as the first",
        "evaluation",
        "min(at_once, n_samples - done)",
        "at_once",
        ("10",),
    ),
    Bug("active units: second moment for variance", "evaluation", "mu.var(0)", "mu.square().mean(0)", ("10",)),
    Bug("CVAE: y dropped from the decoder", "_parts", "torch.cat([z, y.", "torch.cat([z, 0 * y.", ("11",)),
    Bug("CVAE: y dropped from the encoder", "_parts", "torch.cat([x, y if", "torch.cat([x, 0 * y if", ("11",)),
    Bug(
        "CVAE: conditions shuffled",
        "cvae",
        "        return y\n\n    def _prior",
        "        return y.roll(1, 0)\n\n    def _prior",
        ("11",),
    ),
    Bug(
        "CVAE: KL to N(0, I) under a conditional prior",
        "cvae",
        "if self.prior_network is None:\n            return super()._kl",
        "if True:\n            return super()._kl",
        ("12",),
    ),
    Bug(
        "CVAE: conditional prior that ignores y",
        "cvae",
        "run_encoder(self.prior_network, y,",
        "run_encoder(self.prior_network, 0 * y,",
        ("12",),
    ),
    Bug(
        "convolution: the other edge in the place of zeros",
        "networks",
        "nn.Conv2d, before, after, 4, 2, 1",
        'nn.Conv2d, before, after, 4, 2, 1, padding_mode="circular"',
        ("15",),
    ),
    Bug(
        "convolution: a window of 6 for one of 4",
        "networks",
        "nn.Conv2d, before, after, 4, 2, 1",
        "nn.Conv2d, before, after, 6, 2, 2",
        ("15",),
    ),
    Bug(
        "transposed convolution: windows that don't overlap",
        "networks",
        "nn.ConvTranspose2d, before, after, 4, 2, 1",
        "nn.ConvTranspose2d, before, after, 2, 2, 0",
        ("15",),
    ),
    Bug(
        "discretised logistic: an interval that is too narrow",
        "likelihoods",
        "half = 0.5 / (self.levels - 1)",
        "half = 0.5 / self.levels",
        ("15",),
    ),
    Bug("bits: 256 steps for 255", "_bits", "bits + math.log2(levels - 1)", "bits + math.log2(levels)", ("15",)),
    Bug("scene: green and blue exchanged", "_rays", "(hue - channel / 3)", "(hue + channel / 3)", ("19",)),
)
# Whose unit tests look at a module that has none of its own.
UNIT_TESTS = {"contract": "vae", "_parts": "cvae", "_bits": "evaluation", "_rays": "scene"}


def plant(bug: Bug, folder: Path) -> None:
    """Write a copy of vaelib with one mistake into `folder`."""
    shutil.copytree(ROOT / "vaelib", folder / "vaelib", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "vaelib" / f"{bug.module}.py"
    text = path.read_text(encoding="utf-8")
    if text.count(bug.right) != 1:
        sys.exit(f"{bug.name}: {bug.right!r} stands {text.count(bug.right)} times in vaelib/{bug.module}.py, not once")
    path.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")


def failures(folder: Path, *arguments: str) -> list[str]:
    """Run pytest with the copy in place of vaelib, and return what failed."""
    # Safe path: the working tree, where pytest runs, must not come before the copy.
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE", *arguments]
    output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout
    return re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)


def main() -> int:
    """Plant the bugs asked for, print the table, return the exit code."""
    chosen = [int(number) - 1 for number in sys.argv[1:]] or range(len(BUGS))
    missed = 0
    for number in chosen:
        bug = BUGS[number]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            plant(bug, folder)
            unit = failures(folder, f"tests/vaelib/test_{UNIT_TESTS.get(bug.module, bug.module)}.py")
            noticed = []
            for chapter in bug.chapters:
                notebook = str(next(ROOT.glob(f"notebooks/{chapter}_*.ipynb")))
                found = failures(
                    folder, "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "-x", notebook
                )
                noticed += [f"{chapter} ({found[0].rpartition('::')[2]})"] if found else []
        missed += not unit or not noticed
        print(
            f"{number + 1} | {bug.name} | {len(unit)} unit tests | chapters {', '.join(noticed) or 'NONE'}", flush=True
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
