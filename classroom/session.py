"""The side of the tests: starts the process of the answers, bounds what it may use, and calls its functions.

A test calls an answer like any function; here it is a stand-in that sends the arguments over and waits. A tensor that
needs a gradient keeps it: the backward pass asks the other process too.
"""

import builtins
import contextlib
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch
from torch import Tensor

from classroom import protocol

STARTING = 120  # seconds; a machine under load takes long to import everything


class Ended(Exception):
    """The process of the answers is gone, or was ended, and why."""


class Process(Protocol):
    """A started process of the answers."""

    connection: Connection

    def stop(self) -> str:
        """Ends it with all that it started; says how it ended, if it had ended by itself."""


class Session:
    """The answers at work, until their process ends: then every request raises Ended."""

    def __init__(self, process: Process, limit: float):
        self._process, self._limit = process, limit
        self._end = time.monotonic() + STARTING
        self._receive()

    def begin(self) -> None:
        """Starts the clock: from now on the answers have `limit` seconds in all."""
        self._end = time.monotonic() + self._limit

    def run(self, source: str) -> tuple[str, str]:
        """Runs a cell; its error, '' if there was none, and its output."""
        answer = self._ask({"do": "run", "source": source})
        with self._believed():
            return str(answer["error"]), str(answer["output"])

    def names(self, names: list[str]) -> dict[str, Any]:
        """What is defined of the names: functions as stand-ins, other things by value."""
        found = self._ask({"do": "names", "names": names})
        with self._believed():
            return {
                name: protocol.Answer(name, self.call) if found[name] is None else found[name][0]
                for name in names  # and of no others: they could be those of our tools
                if name in found
            }

    def call(self, name: str, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        """Calls a function of the answers; raises the error that it raised."""
        plain = protocol.is_plain(arguments)
        tensors = list(protocol.leaves(arguments))
        request = {
            "do": "call",
            "name": name,
            "arguments": arguments if plain else None,
            "pickled": "" if plain else _pickled(arguments),
            "grads": protocol.grads(tensors),
            "grad_mode": torch.is_grad_enabled(),
        }
        answer = self._ask(request)
        with self._believed():
            self._take_over(answer, tensors, arguments)
            error = _error(*answer["error"]) if "error" in answer else None
        if error:
            raise error
        with self._believed():
            if "graph" not in answer:
                return answer["value"]
            inputs = [tensor for tensor in tensors if tensor.requires_grad]
            outputs = _Graph.apply(self, answer["graph"], answer["value"], *inputs)
            return _replaced(answer["value"], iter(outputs))

    @staticmethod
    def _take_over(answer: Any, tensors: list[Tensor], arguments: Any) -> None:
        """What the call changed of the parameters, generators and optimizers that it was given."""
        with torch.no_grad():
            for place, value, grad in answer["parameters"]:
                if isinstance(tensors[place], torch.nn.Parameter):  # nothing else may be changed from over there
                    if not torch.equal(tensors[place], value):  # writing the same again would spoil a graph
                        tensors[place].copy_(value)
                    tensors[place].grad = grad
        for state, value in zip(protocol.states(arguments), answer["states"], strict=True):
            if isinstance(state, torch.Generator):
                state.set_state(value.get_state())
            else:
                state.load_state_dict(value)

    def backward(self, graph: int, slopes: list[Tensor]) -> list[Tensor | None]:
        """The gradients of a call's arguments, from those of its values."""
        answer = self._ask({"do": "backward", "graph": graph, "slopes": slopes})
        with self._believed():
            error = _error(*answer["error"]) if "error" in answer else None
        if error:
            raise error
        with self._believed():
            return list(answer["value"])

    def forget(self) -> None:
        """Lets go of what was kept for backward passes."""
        self._ask({"do": "forget"})

    def close(self) -> str:
        """Ends the process; how it had ended, if it had."""
        return self._process.stop()

    @contextlib.contextmanager
    def _believed(self) -> Iterator[None]:
        """Takes a reply apart; one that has another form than ours is an answer's forgery, and ends the process."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError):
            self.close()
            raise Ended("the process of the answers sent what is no reply, and was ended") from None

    def _ask(self, request: dict[str, Any]) -> Any:
        frame = protocol.encode(request)
        try:
            self._process.connection.send_bytes(frame)
        except OSError:
            raise Ended(self._ended()) from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            if self._process.connection.poll(max(0, self._end - time.monotonic())):
                return protocol.decode(self._process.connection.recv_bytes(protocol.LARGEST))
        except (EOFError, OSError):
            raise Ended(self._ended()) from None
        except protocol.ProtocolError as error:
            self.close()
            raise Ended(str(error)) from None
        raise Ended(self._ended(f"it took more than {self._limit:g} seconds, and was ended"))

    def _ended(self, otherwise: str = "the process of the answers ended") -> str:
        how = self.close()
        return f"the process of the answers ended{how}" if how else otherwise


class _Graph(torch.autograd.Function):
    """A call as one step of the graph: its values were computed elsewhere, and so are its gradients."""

    @staticmethod
    def forward(ctx: Any, session: Session, graph: int, value: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.session, ctx.graph = session, graph
        return tuple(tensor.detach() for tensor in protocol.leaves(value) if tensor.requires_grad)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Any, ...]:
        return None, None, None, *ctx.session.backward(ctx.graph, list(slopes))


def _pickled(arguments: Any) -> str:
    import cloudpickle  # packs the tests' own functions and modules

    return cloudpickle.dumps(arguments).hex()


def _replaced(value: Any, outputs: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return next(outputs) if value.requires_grad else value
    if isinstance(value, (tuple, list)):
        items = [_replaced(each, outputs) for each in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: _replaced(each, outputs) for key, each in value.items()}
    return value


def _error(kind: str, message: str, frames: str) -> Exception:
    """The error that an answer raised, as one of Python's own kinds; what would end a program is none of them."""
    found = getattr(builtins, str(kind), None)
    if isinstance(found, type) and issubclass(found, Exception):
        with contextlib.suppress(TypeError):  # some kinds want more than a message
            error = found(message)
            error.add_note(frames)
            return error
    error = RuntimeError(f"{kind}: {message}")
    error.add_note(frames)
    return error
