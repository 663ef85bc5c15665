"""A chapter, which is a pair of files, and how a notebook is written down."""

import hashlib
from pathlib import Path

import nbformat
from nbformat import NotebookNode


class NotebookError(Exception):
    """A chapter that cannot become a notebook; the message names the place and the remedy."""


class Chapter:
    """One pair: book/NN_name.md, which people edit, and notebooks/NN_name.ipynb, which this tool writes."""

    def __init__(self, root: Path, stem: str):
        self.root = root
        self.stem = stem
        self.source = f"book/{stem}.md"
        self.notebook = f"notebooks/{stem}.ipynb"
        self.stored = root / self.notebook

    def text(self) -> str:
        try:
            return (self.root / self.source).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise NotebookError(f"{self.source} is not UTF-8 ({error}): save it as UTF-8") from None

    def place(self, notebook: NotebookNode, index: int) -> str:
        """Names a cell as an author finds it: by its first line in the Markdown source."""
        text, line, end = self.text(), 1, 0
        for cell in notebook.cells[: index + 1]:
            start = text.find("\n" + cell.source, end)
            if start >= 0:  # cells that the tool inserted are not in the text
                line, end = text.count("\n", 0, start) + 2, start + len(cell.source)
        return f"{self.source}, line {line}"


def chapters(root: Path) -> list[Chapter]:
    return [Chapter(root, path.stem) for path in sorted((root / "book").glob("[0-9][0-9]_*.md"))]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def serialise(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook, version=4) + "\n"


def seal(notebook: NotebookNode) -> str:
    """The notebook as text, the digest of all the rest of it written into its metadata."""
    notebook.metadata.setdefault("vaelib", {}).pop("notebook_sha256", None)
    notebook.metadata["vaelib"]["notebook_sha256"] = sha256(serialise(notebook))
    return serialise(notebook)
