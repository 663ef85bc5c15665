"""The command line of what makes the book: `python -m bookbuild COMMAND`; without a command it lists them."""

import importlib
import sys

# The module whose `main` runs each command; loaded only where it is asked for, since some are slow to load.
COMMANDS = {
    "notebooks": ("bookbuild.notebooks", "make notebooks/*.ipynb from book/*.md, or compare the two"),
    "assignments": ("bookbuild.assignments", "make the student versions of book/assignments/*.md, or compare the two"),
    "copies": ("bookbuild.readers_copy", "bring the reader's copies in my/ up to date, or one original back"),
    "lab": ("bookbuild.lab", "the same, then open the book in JupyterLab"),
    "cells": ("bookbuild.cells", "lint and format the code cells of book/, by the lines of the Markdown"),
    "site": ("bookbuild.pages", "build the site in _build/site"),
    "pictures": ("bookbuild.pictures", "photograph the built site for the README"),
    "house": ("bookbuild.house", "draw what lies where, and which way imports go"),
}


def main(arguments: list[str]) -> int:
    """Runs a command with the arguments after its name; its exit status."""
    name, *rest = arguments or [""]
    if name in COMMANDS:
        return int(importlib.import_module(COMMANDS[name][0]).main(rest))
    print("Usage: python -m bookbuild COMMAND ...; --help after a command lists its options", file=sys.stderr)
    for command, (_, does) in COMMANDS.items():
        print(f"  {command:<12} {does}", file=sys.stderr)
    return 0 if name in ("-h", "--help") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
