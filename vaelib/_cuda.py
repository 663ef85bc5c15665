"""Training steps on a CUDA device: recorded once as a CUDA graph and replayed, with no wait for it in an epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

WARM_UP = 3


class Recorder:
    """Takes steps without waiting for them.

    A small model's step is dozens of kernels, each shorter than the time to launch it; a replay launches them at once.
    A number that is not finite makes the optimizer skip that step and all later ones, on the device, until `bad_step`
    is read at the end of the epoch.

    Args:
        optimizer: a fused Adam.
        generator: of the noise in the step.
        batch_size: of the batches that are recorded; a smaller one is stepped through as usual.
        recordable: whether a graph can record the step; a reader's own function may do what none can.
    """

    def __init__(self, optimizer: Optimizer, generator: torch.Generator, batch_size: int, recordable: bool) -> None:
        device = generator.device
        self.optimizer, self.generator, self.recordable = optimizer, generator, recordable
        self.rate = torch.zeros((), device=device)
        self.step = torch.zeros((), device=device, dtype=torch.int64)
        self.first_bad = torch.full((), -1, device=device, dtype=torch.int64)
        self.bad_values = torch.zeros(4, device=device)
        self.skip = torch.zeros((), device=device)
        self.rows = torch.zeros(batch_size, device=device, dtype=torch.int64)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.eager_steps = 0
        self.stream = torch.cuda.Stream(device)
        self.prepare_optimizer()

    def prepare_optimizer(self) -> None:
        """Keep the rate and the order to skip on the device, where a recorded step can read them."""
        for group in self.optimizer.param_groups:
            group["lr"], group["capturable"] = self.rate, True
        # The fused Adam reads these two, as torch.amp.GradScaler sets them: it skips the update where found_inf is 1.
        vars(self.optimizer).update(grad_scale=None, found_inf=self.skip)

    def recorded(self, take_step: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
        """Return a function that takes the same steps: the first few as they are, the others replayed.

        Args:
            take_step: one step on the given rows; it calls `watch` before it changes a weight.
        """

        def replayed(rows: Tensor) -> None:
            whole = len(rows) == len(self.rows)
            if whole and self.recordable and self.eager_steps >= WARM_UP and self.graph is None:
                self._record(take_step)
            if whole and self.graph is not None:
                self.rows.copy_(rows)
                self.graph.replay()
            else:
                take_step(rows)
                self.eager_steps += 1

        return replayed

    def announce(self, step: int, rate: float) -> None:
        """Tell the device the number and the learning rate of the step that follows."""
        self.rate.fill_(rate)
        self.step.fill_(step)

    def watch(self, values: Tensor) -> None:
        """Remember, on the device, the first step with a value that is not finite, and skip from it on."""
        bad = ~torch.isfinite(values).all()
        first = bad & (self.first_bad < 0)
        self.bad_values[: len(values)] = torch.where(first, values, self.bad_values[: len(values)])
        self.first_bad.copy_(torch.where(first, self.step, self.first_bad))
        self.skip.copy_(self.first_bad >= 0)

    def bad_step(self) -> int:
        """Wait for the device, and return the first step with a value that is not finite, or -1."""
        return int(self.first_bad.item())

    @contextmanager
    def own_stream(self) -> Iterator[None]:
        """Work on a stream of one's own, as recording demands, between what came before and what follows."""
        outer = torch.cuda.current_stream(self.generator.device)
        self.stream.wait_stream(outer)
        with torch.cuda.stream(self.stream):
            yield
        outer.wait_stream(self.stream)

    def _record(self, take_step: Callable[[Tensor], None]) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generator)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph, stream=self.stream):
            take_step(self.rows)
