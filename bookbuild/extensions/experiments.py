"""The index of experiments, from what is stored: the results of the long runs, and the verdicts of the chapters.

A stored result says in its ``summary`` which of its numbers answer which question, by templates that are filled from
the part in which they stand; nearest to it outwards are found the seeds, the CPU minutes and the command. The table of
experiments/README.md names chapter and file. A chapter's verdict is a list of four items: **Claimed.**, **Tested.**,
**Found.** and **Would change our mind.**, of which the index shows three. So each thing is written once.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ASSERTION = re.compile(r"^\s*assert\b|\bassert_\w+\(", re.MULTILINE)
HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
ITEMS = ("Claimed", "Tested", "Found", "Would change our mind")
VERDICT = re.compile("".join(rf"^- \*\*{item}\.\*\*(.+?)" for item in ITEMS) + r"(?=\n\n|\n(?! )|\Z)", re.M | re.S)


class SummaryError(ValueError):
    """A result or a verdict that the index can't show; the message says where and what is missing."""


class Finding(NamedTuple):
    """One row of a table: an answer that a stored file gives."""

    question: str
    result: str
    error: str
    seeds: str
    minutes: str
    command: str


class _FromPart(string.Formatter):
    """``{bounds[5000][mean]:.2f}``: keys of groups and places in lists, one after another."""

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return _at(kwargs, str(key))

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value: Any = kwargs
        for key in re.sub(r"\[([^\]]*)\]", "\0\\1", field_name).split("\0"):
            value = _at(value, key)
        return value, field_name


def _at(group: Any, key: str) -> Any:
    return group[int(key)] if isinstance(group, list) else group[key]


def findings(record: dict[str, Any], outer: tuple[dict[str, Any], ...] = ()) -> Iterator[Finding]:
    """Yield what a stored file says that it found, in its order."""
    around = (record, *outer)
    for entry in record.get("summary", []):
        yield _finding(entry, around)
    for value in record.values():
        if isinstance(value, dict):
            yield from findings(value, around)


def _finding(entry: dict[str, Any], around: tuple[dict[str, Any], ...]) -> Finding:
    part, said = around[0], entry.get("question", entry)
    fill = _FromPart()
    try:
        result, error = (fill.vformat(entry[key], (), part) for key in ("result", "error"))
    except (KeyError, IndexError, TypeError, ValueError) as missing:
        raise SummaryError(f"the summary of {said!r}: nothing to fill in at {missing!r}") from None
    if not any(field for _, field, _, _ in fill.parse(entry["result"])):
        raise SummaryError(f"the summary of {said!r}: the result takes no number from the part")
    if not str(said).endswith("?"):
        raise SummaryError(f"the summary of {said!r}: its question should end in a question mark")
    found = {
        name: _nearest((entry, *around), keys)
        for name, keys in {
            "seeds": ("seeds", "seed"),
            "minutes": ("cpu_minutes", "minutes"),
            "command": ("command",),
        }.items()
    }
    if missing_keys := [name for name, value in found.items() if value is None]:
        raise SummaryError(f"the summary of {said!r}: neither it nor what is around it tells {', '.join(missing_keys)}")
    seeds = found["seeds"]
    count = len(seeds) if isinstance(seeds, list) else 1 if "seeds" not in entry and isinstance(seeds, int) else seeds
    minutes = found["minutes"]
    shown = f"{minutes:.0f}" if isinstance(minutes, int | float) and minutes >= 2 else f"{minutes:.1g}"
    return Finding(entry["question"], result, error, str(count), shown, found["command"])


def _nearest(around: tuple[dict[str, Any], ...], keys: tuple[str, ...]) -> Any:
    for group in around:
        for key in keys:
            for place in (group, group.get("provenance", {})):
                if key in place:
                    return place[key]
    return None


class Verdict(NamedTuple):
    """What a chapter concludes, and the section in which it does."""

    section: str
    claimed: str
    tested: str
    found: str


def verdicts(cells: list[dict[str, Any]], name: str) -> list[Verdict]:
    """Return the verdicts of a chapter, from its Markdown cells."""
    section, result = "", []
    for cell in cells:
        if cell["cell_type"] != "markdown":
            continue
        text = "".join(cell["source"])
        places = [(found.start(), found[1]) for found in HEADING.finditer(text)]
        complete = list(VERDICT.finditer(text))
        if len(complete) != text.count("**Claimed.**"):
            expected = ", ".join(f"**{item}.**" for item in ITEMS)
            raise SummaryError(f"{name}: a verdict is one list of the items {expected}, in this order")
        for found in complete:
            above = [heading for place, heading in places if place < found.start()]
            # The chapters lie beside each other, and the index elsewhere.
            items = (found[number].replace("{doc}`", "{doc}`/notebooks/") for number in (1, 2, 3))
            claimed, tested, what = (" ".join(each.split()) for each in items)
            result.append(Verdict((above or [section])[-1], claimed, tested, what))
        section = places[-1][1] if places else section
    return result


def rows(readme: str) -> dict[str, tuple[str, str]]:
    """Return for each file of results the command that makes it and the chapter that shows it."""
    cells = [
        [cell.strip(" `") for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*\|$", readme, re.M)
    ]
    return {row[3].rsplit("/", 1)[-1]: (row[0], row[2]) for row in cells if "book/results/" in row[3]}


def _list_table(head: Sequence[str], widths: Sequence[int], body: Sequence[Sequence[str]]) -> str:
    lines = ["```{list-table}", ":header-rows: 1", f":widths: {' '.join(map(str, widths))}", ":class: index", ""]
    for row in (head, *body):
        lines += [f"{'* -' if place == 0 else '  -'} {cell}" for place, cell in enumerate(row)]
    return "\n".join([*lines, "```", ""])


def stored_results(root: Path = ROOT) -> str:
    """Return a table for each file of results, in the order of the chapters that show them."""
    listed = rows((root / "experiments/README.md").read_text(encoding="utf-8"))
    blocks = []
    for name, (command, chapter) in sorted(listed.items(), key=lambda item: int(re.findall(r"\d+", item[1][1])[0])):
        path = root / "book/results" / name
        if not path.is_file():
            continue
        found = list(findings(json.loads(path.read_text(encoding="utf-8"))))
        blocks.append(f"### Chapter {chapter}: {name}\n\n`{command}` makes `book/results/{name}`.\n")
        head = ("Question", "Result", "Error", "Seeds", "CPU minutes", "Part")
        body = [(*each[:5], _part(each.command, command)) for each in found]
        if body:
            blocks.append(_list_table(head, (26, 27, 22, 7, 8, 10), body))
    return "\n".join(blocks)


def _part(command: str, of_all: str) -> str:
    """Return what a command adds to the one that makes the whole file."""
    if not command.startswith(of_all):
        return f"`{command}`"
    rest = command.removeprefix(of_all).strip()
    return f"`{rest}`" if rest else "all"


def chapters_own(source: Path) -> str:
    """Return, for each chapter, its verdicts, its assertions and CPU seconds, and its figures with their captions."""
    blocks = []
    for path in sorted((source / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = notebook["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        title = re.search(r"^# (.+)", "".join(cells[0]["source"]), re.MULTILINE)
        asserted = sum(len(ASSERTION.findall("".join(cell["source"]))) for cell in code)
        figures = [figure for cell in code if (figure := cell["metadata"].get("mystnb", {}).get("figure"))]
        seconds = notebook["metadata"]["vaelib"].get("cpu_seconds")
        counts = f"{asserted} assertions, {len(figures)} figures" + (f", {seconds} CPU seconds" if seconds else "")
        blocks.append(f"### {int(path.stem[:2])}. {title[1] if title else path.stem}\n")
        blocks.append(f"{{doc}}`Open the chapter </notebooks/{path.stem}>`: {counts}.\n")
        if concluded := verdicts(cells, path.stem):
            body = [(each.claimed, each.tested, f"{each.found} (*{each.section}*)") for each in concluded]
            blocks.append(_list_table(("Claimed", "Tested", "Found"), (28, 32, 40), body))
        if figures:
            blocks += ["<details><summary>The figures</summary>\n"]
            blocks += [f"- {{numref}}`{figure['name']}`: {figure['caption'].strip()}" for figure in figures]
            blocks += ["", "</details>\n"]
    return "\n".join(blocks)


def index(source: Path, root: Path = ROOT) -> str:
    """Return what stands in the place of the mark in book/experiments.md."""
    return f"## The long runs\n\n{stored_results(root)}\n## In the chapters\n\n{chapters_own(source)}"
