"""Cite as Kingma and Welling (2014), or in parentheses (Kingma and Welling, 2014), as the notebooks do."""

from __future__ import annotations

from dataclasses import dataclass, field

from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle


@dataclass
class RoundBrackets(AuthorYearReferenceStyle):
    """The author-year style, in round brackets."""

    bracket_textual: BracketStyle = field(default_factory=lambda: BracketStyle("(", ")"))
    bracket_parenthetical: BracketStyle = field(default_factory=lambda: BracketStyle("(", ")", sep="; "))


def setup(app):
    """Register the style under the name that conf.py's bibtex_reference_style gives."""
    register_plugin("sphinxcontrib.bibtex.style.referencing", "author_year_round", RoundBrackets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
