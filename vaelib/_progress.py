"""Whether somebody is watching, and where a progress bar goes."""

import io
import math
import sys
from typing import Any, TextIO

__all__ = ["Bar", "in_notebook", "is_watched", "stream"]


def in_notebook() -> bool:
    """Return whether output goes to a notebook."""
    ipython = sys.modules.get("IPython")  # imported already where this is a notebook
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def is_watched() -> bool:
    """Return whether somebody may look at a progress bar: in a terminal or in a notebook."""
    return in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def stream() -> TextIO:
    """Return where the bar of a long computation goes.

    In a notebook standard error looks like an error; in a terminal it keeps standard output clean. Where it is closed,
    nobody sees the bar.
    """
    return (sys.stdout if in_notebook() else sys.stderr) or io.StringIO()


class Bar:
    """One line of progress: live while training runs, and a summary without timings when it ends.

    Args:
        enabled: whether to show it.
        run: a `vaelib._run.Run`.
    """

    def __init__(self, enabled: bool, run: Any) -> None:
        from tqdm import tqdm

        self.run = run
        self.shown_at = run.step
        self.bar = tqdm(
            total=run.total_steps,
            initial=run.step,
            disable=not enabled,
            file=stream(),
            bar_format="{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}",
        )

    def __enter__(self) -> "Bar":
        """Show the line."""
        return self

    def show(self) -> None:
        """Move the bar on; on an accelerator only once an epoch, since reading the terms would make it wait."""
        run = self.run
        due = run.step % run.batches == 0 or (run.device.type == "cpu" and run.step - self.shown_at >= 20)
        if not self.bar.disable and due:
            self.bar.set_postfix_str(
                f"epoch {math.ceil(run.step / run.batches)}: {_in_words(run.means())}", refresh=False
            )
            self.bar.update(run.step - self.shown_at)
            self.shown_at = run.step

    def __exit__(self, kind: type | None, *rest: object) -> None:
        """Leave a summary of the last epoch."""
        history = self.run.history
        if kind is None and history.epochs:
            end = {name: values[-1] for name, values in history.train.items()}
            stopped = f", stopped in epoch {history.epochs + 1}" if history.interrupted else ""
            self.bar.bar_format = "{desc}"
            self.bar.set_description_str(f"{history.epochs} epochs{stopped}: {_in_words(end)}")
        self.bar.close()


def _in_words(means: dict[str, float]) -> str:
    if "kl" not in means:
        return f"objective {means['objective']:.2f}"
    negative_elbo = means["kl"] - means["log_likelihood"]
    return (
        f"-ELBO {negative_elbo:.2f} = -log p(x|z) {-means['log_likelihood']:.2f} + KL {means['kl']:.2f} nats per image"
    )
