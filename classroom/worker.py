"""The process of the answers: it runs a student's cells as a kernel does, and calls the functions when it is asked to.

It holds no test and no mark. What it says is believed to be what the answers say, and nothing else.
"""

import builtins
import contextlib
import io
import os
import re
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from classroom import protocol

KEPT = 10_000  # characters of a cell's output
FRAMES = 5  # of a traceback
SECONDS = 3600  # of a core, if nobody ends the process


class Output(io.TextIOBase):
    """Keeps the first characters that are written to it and forgets the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.cut = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        room = KEPT - len(self.text)
        self.text += text[: max(0, room)]
        self.cut = self.cut or len(text) > room
        return len(text)

    def read(self, size: int | None = -1, /) -> str:
        return self.text + ("\n[cut]" if self.cut else "")


class Answers:
    """A student's notebook at work: its names, and the graphs of the calls whose gradients may be asked for."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        class Shell(InteractiveShell):
            def enable_gui(self, gui: object = None) -> None:
                """There is no window here; `%matplotlib inline` comes by."""

        config = Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}})
        self.shell = Shell.instance(config=config)
        self.shell.user_ns["__name__"] = "__main__"
        self.graphs: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []

    def run(self, source: str) -> dict[str, str]:
        """Runs a cell; its error, '' if there was none, and its output."""
        output = Output()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            result = self.shell.run_cell(source)
        error = result.error_before_exec or result.error_in_exec
        return {"error": _line(error) if error else "", "output": output.read()}

    def names(self, names: list[str]) -> dict[str, Any]:
        """Of the names that are defined: None for a function, and a list with the value for anything else."""
        space = self.shell.user_ns
        return {name: None if callable(space[name]) else [space[name]] for name in names if name in space}

    def call(self, name: str, arguments: Any, pickled: str, grads: list[Any], grad_mode: bool) -> dict[str, Any]:
        """Calls a function; its value, or its error, and what it changed in its arguments."""
        if pickled:
            import cloudpickle  # made by the tests; what the answers send is never pickled

            arguments = cloudpickle.loads(bytes.fromhex(pickled))
        tensors = list(protocol.leaves(arguments))
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = grad
        parameters = {place: tensor for place, tensor in enumerate(tensors) if isinstance(tensor, torch.nn.Parameter)}
        output = Output()
        answer: dict[str, Any] = {}
        try:
            with (
                contextlib.redirect_stdout(output),
                contextlib.redirect_stderr(output),
                torch.set_grad_enabled(grad_mode),
            ):
                answer["value"] = self.shell.user_ns[name](*arguments[0], **arguments[1])
        except BaseException as error:  # SystemExit and KeyboardInterrupt too are an answer's own affair
            answer["error"] = _described(error)
        # Of a plain tensor a change stays here: the tests go on with what they passed.
        answer["parameters"] = [[place, tensor.detach(), tensor.grad] for place, tensor in parameters.items()]
        answer["states"] = [
            state if isinstance(state, torch.Generator) else state.state_dict() for state in protocol.states(arguments)
        ]
        outputs = [tensor for tensor in protocol.leaves(answer.get("value")) if tensor.requires_grad]
        if outputs:
            self.graphs.append((outputs, [tensor for tensor in tensors if tensor.requires_grad]))
            answer["graph"] = len(self.graphs) - 1
        return answer

    def backward(self, graph: int, slopes: list[torch.Tensor]) -> dict[str, Any]:
        """The gradients of a call's arguments, from those of its values."""
        outputs, inputs = self.graphs[graph]
        try:
            return {"value": list(torch.autograd.grad(outputs, inputs, slopes, retain_graph=True, allow_unused=True))}
        except BaseException as error:  # a graph may run an answer's own code
            return {"error": _described(error)}

    def forget(self) -> None:
        """Drops the graphs of the calls so far."""
        self.graphs.clear()


def serve(connection: Connection, memory: int = 0) -> None:
    """Does what it is told until the connection closes; with `memory`, may take that many bytes more."""
    import matplotlib

    matplotlib.use("agg")
    torch.set_num_threads(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # what a program that an answer starts writes is not kept
        os.dup2(nowhere, stream)
    answers = Answers()
    if memory:
        bound(memory)
    connection.send_bytes(protocol.encode("ready"))
    while True:
        try:
            request = protocol.decode(connection.recv_bytes())
        except EOFError:
            return
        reply = getattr(answers, request.pop("do"))(**request)
        try:
            frame = protocol.encode(reply)
        except protocol.ProtocolError as error:
            frame = protocol.encode({"error": ["ProtocolError", str(error), ""], "parameters": [], "states": []})
        connection.send_bytes(frame)


def _described(error: BaseException) -> list[str]:
    """The name of the error, its message, and the last frames of its traceback."""
    frames = traceback.extract_tb(error.__traceback__)[1:][-FRAMES:]
    known = next((kind for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind), Exception)
    return [known.__name__, _text(error), "".join(traceback.format_list(frames))[:KEPT]]


def _text(error: BaseException) -> str:
    try:
        return str(error)[:KEPT]
    except BaseException:  # an error's own __str__ may fail
        return ""


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {_text(error)}"[:1000]


def bound(memory: int) -> None:
    """Bounds the memory that is still to be taken, and what a file may hold, where the system knows such bounds."""
    try:
        import resource
    except ImportError:
        return
    status = Path("/proc/self/status")
    if status.exists() and (size := re.search(r"^VmSize:\s+(\d+) kB", status.read_text(), re.MULTILINE)):
        resource.setrlimit(resource.RLIMIT_AS, (int(size[1]) * 1024 + memory,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), memory=int(sys.argv[2]))
