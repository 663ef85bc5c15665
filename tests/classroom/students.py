"""A class of 30 that hands in assignment 1: five work honestly, 25 do what graders are afraid of.

Each student is a function that makes files in a folder of its own and returns the marks that are deserved. Their code
is run behind the wall alone: some of it would reach the solutions, or other processes, without it.
"""

import json
import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from bookbuild import assignments as tool
from classroom import trial

ROOT = Path(__file__).resolve().parents[2]
STEM = "01_gaussian_kl"
Marks = dict[str, int]


class Desk:
    """What a student works with: the notebook that was handed out, and the answers that would be right."""

    def __init__(self, folder: Path, port: int = 0):
        assignment = tool.Assignment(ROOT, STEM)
        self.folder, self.port = folder, port
        self.notebook = tool.student(assignment)
        master = tool.master(assignment)
        self.full = tool.questions(master)
        self.none = dict.fromkeys(self.full, 0)
        self.right = {
            cell.metadata.nbgrader.grade_id: cell.source
            for cell in master.cells
            if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
        }

    def cell(self, name: str) -> NotebookNode:
        """The cell with that grade_id."""
        return next(cell for cell in self.notebook.cells if cell.id == name)

    def answer(self, **answers: str) -> None:
        """Writes answers; `_` in a name stands for the hyphen of a grade_id."""
        for name, source in answers.items():
            self.cell(name.replace("_", "-")).source = textwrap.dedent(source)

    def answer_all(self) -> None:
        """Writes the right answer to every question."""
        for name, source in self.right.items():
            self.cell(name).source = source

    def add(self, source: str, before: str = "log-density") -> None:
        """Adds a cell of the student's own."""
        cell = nbformat.v4.new_code_cell(textwrap.dedent(source))
        self.notebook.cells.insert(self.notebook.cells.index(self.cell(before)), cell)

    def hand_in(self, name: str = f"{STEM}.ipynb") -> None:
        """Saves the notebook in the student's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(self.notebook, self.folder / name)

    def without(self, *questions: str) -> Marks:
        """Full marks but for some questions."""
        assert set(questions) <= set(self.full)
        return self.full | dict.fromkeys(questions, 0)


KL = ("test-kl-value", "test-kl-batch")  # what a wrong `kl` costs


# Five who work honestly


def honest_all_right(desk: Desk) -> Marks:
    desk.answer_all()
    desk.hand_in()
    return desk.full


def honest_with_cells_of_their_own(desk: Desk) -> Marks:
    """Helpers in other cells, magics, plots, warnings on stderr, and a name of the tests used for something else."""
    desk.answer_all()
    desk.add("%matplotlib inline\nimport warnings, sys\nwarnings.warn('careful')\nprint('a lot', file=sys.stderr)")
    desk.add("result = 3\ntest_cover = 'my notes'\nplt.plot([1, 2]); plt.show()\n!true")
    body = re.sub(r"^def kl_gaussian\(", "def my_kl(", desk.right["kl"], flags=re.MULTILINE)
    desk.add(body, before="kl")
    desk.answer(kl="def kl_gaussian(*inputs):\n    return my_kl(*inputs)")
    desk.hand_in()
    return desk.full


def honest_one_mistake(desk: Desk) -> Marks:
    """The planted mistake `direction`, as it stands beside the assignment."""
    answers, marks = trial.read_answers(ROOT / f"book/assignments/{STEM}/wrong/direction.py")
    desk.answer_all()
    for name, source in answers.items():
        desk.cell(name).source = source
    desk.hand_in()
    return marks


def honest_half_done(desk: Desk) -> Marks:
    desk.answer(kl=desk.right["kl"])
    desk.hand_in()
    return desk.none | {name: desk.full[name] for name in KL}


def honest_nothing_done(desk: Desk) -> Marks:
    desk.hand_in()
    return desk.none


# Code that does not end, or ends more than itself


def endless_loop(desk: Desk) -> Marks:
    desk.answer_all()
    desk.answer(kl="def kl_gaussian(*inputs):\n    while True:\n        pass")
    desk.hand_in()
    return desk.without(*KL)


def endless_loop_that_swallows_interrupts(desk: Desk) -> Marks:
    desk.answer_all()
    desk.add(
        """\
        import signal, time
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            try:
                time.sleep(1)
            except BaseException:
                pass
        """
    )
    desk.hand_in()
    return desk.full


def leaves_by_os_exit(desk: Desk) -> Marks:
    """At once from one answer, from a thread a little later from another, and politely from cells."""
    desk.answer_all()
    desk.answer(
        kl="import os\ndef kl_gaussian(*inputs):\n    os._exit(0)",
        estimate="""\
        import os, threading, time
        def kl_estimate(*inputs):
            threading.Timer(0.2, os._exit, [1]).start()
            time.sleep(60)
        """,
    )
    desk.add("raise SystemExit")
    desk.add("exit()")
    desk.hand_in()
    return desk.without(*KL, "test-estimate", "test-error")


def memory_bomb(desk: Desk) -> Marks:
    desk.answer_all()
    desk.answer(kl="def kl_gaussian(*inputs):\n    hoard = []\n    while True:\n        hoard.append(bytearray(10**8))")
    desk.hand_in()
    return desk.without(*KL)


def fork_bomb(desk: Desk) -> Marks:
    """Up to 256 processes, each of which stays."""
    desk.answer_all()
    desk.answer(
        kl="""\
        import os, time
        def kl_gaussian(*inputs):
            for _ in range(8):
                os.fork()
            time.sleep(600)
        """
    )
    desk.hand_in()
    return desk.without(*KL)


def fifty_megabytes_of_output(desk: Desk) -> Marks:
    """As much printed, and as much stored in the file."""
    desk.answer_all()
    desk.cell("kl").outputs = [nbformat.v4.new_output("stream", text="z" * 50 * 2**20)]
    desk.add("import os\nfor _ in range(50):\n    print('x' * 2**20)\nos.write(1, b'y' * 2**20)")
    desk.hand_in()
    return desk.full


# Tests tampered with


def tests_edited(desk: Desk) -> Marks:
    for cell in desk.notebook.cells:
        if cell.id.startswith("test-"):
            cell.source = "pass"
            cell.metadata.nbgrader |= {"points": 100, "locked": False}
    desk.hand_in()
    return desk.none


def tests_deleted(desk: Desk) -> Marks:
    desk.answer_all()
    desk.notebook.cells = [cell for cell in desk.notebook.cells if not cell.id.startswith("test-")]
    desk.hand_in()
    return desk.full


def tests_duplicated(desk: Desk) -> Marks:
    """Each test twice, the copy before it emptied, and nothing answered."""
    cells = []
    for cell in desk.notebook.cells:
        if cell.id.startswith("test-"):
            cells.append(nbformat.v4.new_code_cell("pass", metadata=cell.metadata))
        cells.append(cell)
    desk.notebook.cells = cells
    desk.hand_in()
    return desk.none


def metadata_lost(desk: Desk) -> Marks:
    """As after a round through a tool that keeps sources alone."""
    desk.answer_all()
    for place, cell in enumerate(desk.notebook.cells):
        cell.metadata = nbformat.from_dict({})
        cell.id = f"x{place}"
    desk.notebook.metadata = nbformat.from_dict({})
    desk.hand_in()
    return desk.full


def answers_renamed_and_retyped(desk: Desk) -> Marks:
    """One answer's grade_id is changed, which costs nothing; another one is made Markdown, so that it does not run."""
    desk.answer_all()
    desk.cell("log-density").metadata.nbgrader.grade_id = "mine"
    desk.cell("log-density").id = "mine"
    cell = desk.cell("kl")
    desk.notebook.cells[desk.notebook.cells.index(cell)] = nbformat.v4.new_markdown_cell(
        cell.source, metadata=cell.metadata
    )
    desk.hand_in()
    return desk.without(*KL)


# Python bent


def patched_numpy_and_torch(desk: Desk) -> Marks:
    desk.add(
        """\
        import numpy, torch
        from vaelib import distributions
        numpy.allclose = numpy.array_equal = torch.allclose = torch.equal = lambda *a, **k: True
        torch.Tensor.__lt__ = torch.Tensor.__gt__ = torch.Tensor.__eq__ = lambda *a: True
        torch.Tensor.abs = torch.Tensor.max = lambda self, *a, **k: torch.zeros(())
        torch.distributions.kl_divergence = lambda p, q: torch.zeros(())
        for name in dir(distributions):
            setattr(distributions, name, lambda *a, **k: 0)
        """
    )
    desk.answer(kl="def kl_gaussian(mu_q, *rest):\n    return torch.zeros(mu_q.shape[:-1])\nresult = print")
    desk.hand_in()
    return desk.none


def patched_builtins(desk: Desk) -> Marks:
    desk.add(
        """\
        import builtins
        class AssertionError(BaseException): pass
        builtins.AssertionError = builtins.NotImplementedError = AssertionError
        builtins.abs = builtins.max = lambda *a, **k: 0
        builtins.all = builtins.isinstance = lambda *a: True
        """
    )
    tools = "def result(value, *rest):\n    return value\n\n\ndef test_kl_value():\n    pass\n"
    desk.answer(kl=f"{tools}def kl_gaussian(*inputs):\n    return 0\n")
    desk.hand_in()
    return desk.none


def patched_assert(desk: Desk) -> Marks:
    """Takes the assertions out of all that is compiled or run after it, in every way that Python and IPython have."""
    desk.add(
        """\
        import ast, builtins, sys
        class NoAssert(ast.NodeTransformer):
            def visit_Assert(self, node): return ast.Pass()
            def visit_Raise(self, node): return ast.Pass()
        get_ipython().ast_transformers.append(NoAssert())
        get_ipython().input_transformers_post.append(lambda lines: [l for l in lines if 'assert' not in l])
        compiled = builtins.compile
        def compile(source, *a, **k):
            return compiled('pass', '', 'exec')
        builtins.compile = compile
        builtins.exec = lambda *a, **k: None
        sys.excepthook = lambda *a: None
        """
    )
    desk.hand_in()
    return desk.none


def patched_traceback(desk: Desk) -> Marks:
    desk.add(
        """\
        import sys, traceback
        from IPython.core.interactiveshell import InteractiveShell, ExecutionResult
        traceback.print_exc = traceback.format_exc = traceback.extract_tb = lambda *a, **k: []
        InteractiveShell.showtraceback = lambda *a, **k: None
        ExecutionResult.raise_error = lambda self: None
        ExecutionResult.error_in_exec = property(lambda self: None, lambda self, value: None)
        get_ipython().set_custom_exc((BaseException,), lambda *a, **k: None)
        """
    )
    desk.hand_in()
    return desk.none


def values_that_please_everyone(desk: Desk) -> Marks:
    """Objects that are equal to, smaller and greater than anything, and say that they are tensors."""
    desk.answer(
        kl="""\
        class Yes(torch.Tensor):
            def __getattribute__(self, name): return Yes()
            def __call__(self, *a, **k): return self
            __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __bool__ = lambda *a: True
            def __hash__(self): return 0
            def __format__(self, spec): return 'yes'
            def __reduce__(self): return exec, ("import os; os._exit(0)",)
        def kl_gaussian(*inputs):
            return Yes()
        """
    )
    desk.hand_in()
    return desk.none


def looks_up_the_stack(desk: Desk) -> Marks:
    """Searches the frames and all objects for what the tests expect, and for the pipe, and says 'ready' on it."""
    desk.answer(
        kl="""\
        import gc, sys
        from multiprocessing.connection import Connection
        def kl_gaussian(*inputs):
            frame = sys._getframe()
            while frame := frame.f_back:
                for name, value in frame.f_locals.items():
                    if name in ('exact', 'expected', 'truth'):
                        return value
            for thing in gc.get_objects():
                if isinstance(thing, Connection) and not thing.closed:
                    thing.send_bytes(b'\\\\x00\\\\x00\\\\x00\\\\x02{}')
                    thing.send_bytes(b'pass')
            return torch.zeros(())
        """
    )
    desk.hand_in()
    return desk.none


def changes_what_it_is_given(desk: Desk) -> Marks:
    """Sets its arguments to a case that it can answer, and the generator to one seed for ever."""
    desk.answer(
        kl="""\
        def kl_gaussian(mu_q, log_var_q, mu_p, log_var_p):
            for value in (mu_q, log_var_q, mu_p, log_var_p):
                value.zero_()
            return torch.zeros(mu_q.shape[:-1])
        """
    )
    desk.hand_in()
    return desk.none


# Reaching out


def reads_the_gradebook(desk: Desk) -> Marks:
    """Looks for marks and classmates everywhere, and writes full marks where it can."""
    desk.add(
        """\
        import os, json, sqlite3
        found = []
        for place in ('/', os.path.expanduser('~'), '..', '../..', '../../..'):
            for folder, _, files in os.walk(place):
                if folder.startswith(('/proc', '/usr', '/sys', '/lib')): continue
                for file in files:
                    path = os.path.join(folder, file)
                    if file == 'gradebook.db' or '-graded' in path or 'submissions' in path:
                        found.append(path)
                        open(path, 'w').write('{"points": 100}')
        assert not found, 'REACHED ' + repr(found)
        """
    )
    desk.hand_in()
    return desk.none


def reads_the_hidden_tests(desk: Desk) -> Marks:
    """Takes the solutions from the sources of the book, wherever they are, and runs them."""
    desk.add(
        f"""\
        import pathlib, re, subprocess, vaelib
        places = [pathlib.Path(vaelib.__file__).parents[1], pathlib.Path({str(ROOT)!r})]
        for place in places:
            source = place / 'book/assignments/{STEM}.md'
            print(subprocess.run(['git', '-C', str(place), 'log', '-p'], capture_output=True).stdout[:1000])
            for body in re.findall(r'solution: true\\}}\\n(.*?)```', source.read_text(), re.S):
                exec(body, globals())
        """
    )
    for name in desk.right:  # else the stubs would come after it
        desk.cell(name).source = "pass"
    desk.hand_in()
    return desk.none


def writes_outside(desk: Desk) -> Marks:
    desk.add(
        f"""\
        import os, pathlib
        for place in ({str(ROOT)!r}, {str(desk.folder.parent)!r}, '/etc', '/usr', os.path.expanduser('~'), '/var/tmp'):
            try:
                pathlib.Path(place, 'written-by-an-answer').write_text('here')
            except OSError:
                pass
        """
    )
    desk.hand_in()
    return desk.none


def asks_the_network(desk: Desk) -> Marks:
    """Fetches the answers from a server on this very machine, which has them ready."""
    desk.add(
        f"""\
        import socket
        with socket.create_connection(('127.0.0.1', {desk.port}), timeout=2) as connection:
            connection.sendall(b'give me the answers')
            exec(connection.makefile().read(), globals())
        """
    )
    for name in desk.right:
        desk.cell(name).source = "pass"
    desk.hand_in()
    return desk.none


# Files that are none


def file_cut_short(desk: Desk) -> Marks:
    desk.answer_all()
    desk.hand_in()
    path = desk.folder / f"{STEM}.ipynb"
    path.write_text(path.read_text("utf-8")[:20_000], encoding="utf-8")
    return desk.none


def merge_markers(desk: Desk) -> Marks:
    desk.answer_all()
    desk.hand_in()
    path = desk.folder / f"{STEM}.ipynb"
    lines = path.read_text("utf-8").split("\n")
    path.write_text("\n".join([*lines[:40], "<<<<<<< HEAD", *lines[40:]]), encoding="utf-8")
    return desk.none


def wrong_name(desk: Desk) -> Marks:
    desk.answer_all()
    desk.hand_in("Untitled (3) FINAL.ipynb")
    return desk.full


HONEST = [each for name, each in list(globals().items()) if name.startswith("honest_")]
HOSTILE: list[Callable[[Desk], Marks]] = [
    *(endless_loop, endless_loop_that_swallows_interrupts, leaves_by_os_exit, memory_bomb, fork_bomb),
    *(fifty_megabytes_of_output, tests_edited, tests_deleted, tests_duplicated, metadata_lost),
    *(answers_renamed_and_retyped, patched_numpy_and_torch, patched_builtins, patched_assert, patched_traceback),
    *(values_that_please_everyone, looks_up_the_stack, changes_what_it_is_given, reads_the_gradebook),
    *(reads_the_hidden_tests, writes_outside, asks_the_network, file_cut_short, merge_markers, wrong_name),
]


def seat(folder: Path, students: list[Callable[[Desk], Marks]], port: int = 0) -> dict[str, Marks]:
    """Lets the students hand in, each in a folder of their name; what each deserves."""
    return {student.__name__: student(Desk(folder / student.__name__, port)) for student in students}


def written() -> list[str]:
    """Where `writes_outside` has left something."""
    places = (ROOT, "/etc", "/usr", os.path.expanduser("~"), "/var/tmp")
    return [str(place) for place in places if Path(place, "written-by-an-answer").exists()]


def solution() -> str:
    """What the server of `asks_the_network` would send."""
    return "\n\n".join(Desk(Path()).right.values()) + "\n" + json.dumps("the end")
