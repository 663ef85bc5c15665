"""Turns the MyST of a chapter into Markdown that JupyterLab, Colab and GitHub show as it is meant, with no extension.

Roles and labels become the numbers, names and links that the site gives them: {eq}`eq-elbo-gap` becomes (3.4).
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pybtex.database import Person, parse_string

# What a chapter's Markdown is cut into; all between stays as it is. Code is matched to be left alone.
TOKEN = re.compile(
    r"""
      ^[ ]*(?P<fence>`{3,}|~{3,}|:{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)(?:^[ ]*(?P=fence)[ ]*$|\Z)
    | \\.
    | \{(?P<role>[A-Za-z][\w:+.-]*)\}(?P<ticks>`+)(?P<content>(?:(?!\n\s*\n).)+?)(?<!`)(?P=ticks)(?!`)
    | (?P<code>`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)(?P=code)(?!`)
    | \$\$(?P<math>.+?)\$\$(?:[ ]*\((?P<label>[^()\s]+)\))?
    | ^\((?P<target>[^()\n]+)\)=[ ]*\n+(?=\#+[ ](?P<heading>[^\n]+))?
    | ^(?P<comment>%)[^\n]*(?:\n|\Z)
    """,
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
CHAPTER = re.compile(r"\d\d_\w+")
EXPLICIT = re.compile(r"(?P<text>.+?)\s*<(?P<target>[^<>]+)>", re.DOTALL)  # {doc}`text <target>`


class MarkupError(ValueError):
    """Markup that has no plain form, or a reference that leads nowhere."""


@dataclass(frozen=True)
class Book:
    """What a chapter may refer to. Equations and figures are counted within a chapter in the order of the text."""

    equations: dict[str, str]  # label: 3.4
    figures: dict[str, str]  # name: 3.2
    headings: dict[str, str]  # label: text of the heading after it
    pages: dict[str, tuple[str, str]]  # name in {doc}: title, address from notebooks/
    terms: frozenset[str]  # in lower case
    citations: dict[str, tuple[str, str]]  # key: authors, year

    @classmethod
    def read(cls, root: Path) -> "Book":
        """Read it from book/; bytes that are not UTF-8 are refused where their chapter is converted, not here."""
        texts = {path.stem: path.read_text("utf-8", errors="replace") for path in sorted((root / "book").glob("*.md"))}
        chapters = {stem: text for stem, text in texts.items() if CHAPTER.fullmatch(stem)}
        labels = {int(stem[:2]): _labels(text) for stem, text in chapters.items()}
        bibliography = root / "book" / "references.bib"
        return cls(
            equations=_numbered({number: equations for number, (equations, _, _) in labels.items()}),
            figures=_numbered({number: figures for number, (_, figures, _) in labels.items()}),
            headings={label: text for _, _, headings in labels.values() for label, text in headings},
            pages={
                **{stem: (f"{int(stem[:2])} {_title(text)}", f"{stem}.ipynb") for stem, text in chapters.items()},
                **{f"/book/{stem}": (_title(texts[stem]), f"../book/{stem}.md") for stem in texts.keys() - chapters},
            },
            terms=_terms(texts.get("glossary", "")),
            citations=_citations(bibliography.read_text("utf-8") if bibliography.is_file() else ""),
        )


def _numbered(names: dict[int, tuple[str, ...]]) -> dict[str, str]:
    return {name: f"{chapter}.{i}" for chapter, own in names.items() for i, name in enumerate(own, 1)}


def _title(text: str) -> str:
    found = re.search(r"^# (.+)", text, re.MULTILINE)
    return found[1].strip() if found else "untitled"


@cache
def _labels(text: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The labels of the equations, the names of the figures, and the labels of headings with their texts."""
    tokens = list(TOKEN.finditer(text))
    equations = tuple(token["label"] for token in tokens if token["label"])
    cells = [token["body"] for token in tokens if (token["info"] or "").startswith("{code-cell}")]
    figures = tuple(name for body in cells if (name := _figure(body)))
    return equations, figures, tuple((token["target"], token["heading"]) for token in tokens if token["heading"])


def _figure(cell: str) -> str | None:
    """The name of the figure that a code cell shows."""
    options = re.match(r"---\n(.*?)^---$", cell, re.MULTILINE | re.DOTALL)
    try:
        return yaml.safe_load(options[1])["mystnb"]["figure"]["name"] if options else None
    except (yaml.YAMLError, KeyError, TypeError):
        return None


def _terms(glossary: str) -> frozenset[str]:
    """The lines of the glossary's list that have an indented explanation under them."""
    lines = re.findall(r"^(?![:\s])(.+)(?=\n(?:\S.*\n)*  \S)", glossary, re.MULTILINE)
    return frozenset(line.strip().lower() for line in lines)


@cache
def _citations(bibliography: str) -> dict[str, tuple[str, str]]:
    entries = parse_string(bibliography, "bibtex").entries
    return {key: (_names(entry.persons["author"]), entry.fields["year"]) for key, entry in entries.items()}


def _names(persons: list[Person]) -> str:
    """Family names as the site cites them: one, two, or the first with "et al."."""
    names = [" ".join(map(str, [*person.rich_prelast_names, *person.rich_last_names])) for person in persons]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} et al."


def plain(text: str, book: Book) -> str:
    """The same text without MyST.

    Raises:
        MarkupError: for markup that it does not know, and for a reference that leads nowhere.
    """
    return TOKEN.sub(lambda token: _plain_token(token, book), text)


def _plain_token(token: re.Match[str], book: Book) -> str:
    if token["fence"]:
        if token["fence"].startswith(":") or token["info"].lstrip().startswith("{"):
            raise MarkupError(
                f"the block {token['fence']}{token['info']} has no form outside the site; use plain Markdown"
            )
    elif token["role"]:
        return _plain_role(token["role"], " ".join(token["content"].split()), book)
    elif token["label"]:
        number = _find(book.equations, token["label"], "equation")
        end = "\n" if "\n" in token["math"] else " "
        return f"$${token['math'].rstrip()}{end}\\tag{{{number}}}{end}$$"
    elif token["target"] or token["comment"]:
        return ""
    return token[0]


def _find(known: dict[str, Any], name: str, kind: str) -> Any:
    if name not in known:
        raise MarkupError(f"there is no {kind} named {name}")
    return known[name]


def _plain_role(role: str, content: str, book: Book) -> str:
    explicit = EXPLICIT.fullmatch(content)
    text, target = explicit.groups() if explicit else (None, content)
    match role:
        case "math":
            shown = f"${content}$"
        case "eq":
            shown = f"({_find(book.equations, content, 'equation')})"
        case "numref":
            shown = f"Figure {_find(book.figures, content, 'figure')}"
        case "ref":
            heading = _find(book.headings, target, "label before a heading")
            shown = text or heading
        case "doc":
            shown = _link(text, target, book)
        case "term":
            if target.lower() not in book.terms:
                raise MarkupError(f"there is no term in book/glossary.md named {target}")
            shown = text or target
        case "cite" | "cite:p":
            shown = f"({'; '.join(f'{names}, {year}' for names, year in _sources(content, book))})"
        case "cite:t":
            shown = ", ".join(f"{names} ({year})" for names, year in _sources(content, book))
        case _:
            raise MarkupError(f"the role {{{role}}} has no form outside the site")
    return shown


def _link(text: str | None, target: str, book: Book) -> str:
    if CHAPTER.fullmatch(target) and target not in book.pages:
        return text or f"chapter {int(target[:2])}"  # not written yet; the site's build refuses it
    title, address = _find(book.pages, target, "page")
    return f"[{text or title}]({address})"


def _sources(keys: str, book: Book) -> list[tuple[str, str]]:
    """Authors and year of each key, in the order of the bibliography, which the site follows whatever the text says."""
    return sorted(_find(book.citations, key.strip(), "source in book/references.bib") for key in keys.split(","))
