"""The house: which package may import which, on which floor of vaelib each module lies, and the picture of it.

python -m bookbuild house      draws book/figures/house.svg from what the modules really import

Imports go down, and within a floor from right to left; tests/test_house.py holds every module to that. A new module of
vaelib gets its place in FLOORS, behind those that it imports.
"""

import argparse
import ast
from html import escape
from pathlib import Path

from vaelib._files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
PICTURE = "book/figures/house.svg"
# Who may import whom. The tests may import all, and nobody imports them.
MAY_IMPORT: dict[str, set[str]] = {
    "tools": set(),
    "vaelib": set(),
    "experiments": {"vaelib"},
    "bookbuild": {"vaelib", "tools"},
    "classroom": {"vaelib", "bookbuild"},
}
# The floors of vaelib, the lowest first. A module may import what stands before it.
FLOORS: list[tuple[str, list[str]]] = [
    (
        "mathematics, data, files, pictures",
        [
            *(
                "perceptron",
                "_notices",
                "_pixels",
                "distributions",
                "_shapes",
                "networks",
                "exact",
                "_drawable",
                "figures",
                "_files",
                "_progress",
                "_idx",
                "_fetch",
            ),
            *("_rays", "scene", "_made"),
            *(
                "_emnist",
                "_sets",
                "_folder",
                "data",
                "_content",
                "_identity",
                "_state",
                "checkpoints",
                "_interrupt",
                "_devices",
            ),
        ],
    ),
    ("p(x|z), and what a model must offer", ["contract", "likelihoods", "_inputs", "_parts", "_model_checks"]),
    ("models", ["autoencoder", "vae", "cvae"]),
    ("training", ["_cuda", "_objectives", "_guards", "_run", "training"]),
    (
        "what a trained model is asked",
        [
            *("latent", "_bits", "evaluation", "annealing", "pretrained"),
            *("_case", "_bounds", "_draws", "_examinations", "_histories", "diagnosis"),
        ],
    ),
    (
        "widgets, and the command line (sliders and explorer are old names)",
        ["widgets", "sliders", "explorer", "_own", "__main__"],
    ),
]


def modules(package: str, root: Path = ROOT) -> dict[str, str]:
    """The source of each module of a package, by its dotted name."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path.read_text(encoding="utf-8")
    return found


def imports(name: str, source: str, is_package: bool = False) -> set[str]:
    """Every dotted name that a module imports, anywhere in its source: `from a import b` gives a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")[: len(name.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def graph(package: str, root: Path = ROOT) -> dict[str, set[str]]:
    """For each module of a package the modules of all packages of the house that it imports."""
    known = {name for each in MAY_IMPORT for name in modules(each, root)}
    found = {}
    for name, source in modules(package, root).items():
        is_package = (root / name.replace(".", "/")).is_dir()
        wanted = imports(name, source, is_package) & known
        # `from a.b import c` loads a.b, and a on the way; what counts is the deepest module that is meant.
        found[name] = {each for each in wanted if not any(other.startswith(f"{each}.") for other in wanted)} - {name}
    return found


def uses(package: str, root: Path = ROOT) -> dict[str, set[str]]:
    """The other packages that a package imports, and of each the modules."""
    found: dict[str, set[str]] = {}
    for wanted in graph(package, root).values():
        for name in wanted:
            top, _, rest = name.partition(".")
            if top != package:
                found.setdefault(top, set()).add(rest.partition(".")[0])
    return found


# The picture

WIDTH, MARGIN, GAP, LINE = 1080, 30, 96, 21
INK, FAINT = "#1a1a1a", "#5a5a5a"
# Light tints of colours that people tell apart whatever their eyes are like; nothing is said by colour alone.
TINTS = {"vaelib": "#d6e9f8", "experiments": "#fdebc8", "bookbuild": "#d3efe3", "classroom": "#f6dcea"}
DOES = {
    "experiments": "long runs, stored numbers",
    "bookbuild": "from text to notebooks and site",
    "classroom": "the grader",
    "vaelib": "the library that the chapters build",
}


def picture(root: Path = ROOT) -> str:
    """The house as SVG: the same modules and imports always give the same bytes."""
    parts = [_roof(30, 92)]
    upper = {name: _names(name, root) for name in ("experiments", "bookbuild", "classroom")}
    width = (WIDTH - 2 * MARGIN - 2 * GAP) / 3
    lines = {name: _wrapped(each, width - 24) for name, each in upper.items()}
    top, height = 108, 58 + LINE * max(map(len, lines.values()))
    below = top + height + 74
    for place, name in enumerate(upper):
        left = MARGIN + place * (width + GAP)
        parts += _room(left, top, width, height, f"{name}/", DOES[name], lines[name], TINTS[name])
        if wanted := uses(name, root).get("vaelib"):
            parts += _arrow(left + width / 2, top + height, left + width / 2, below, _said(wanted), 8)
    if wanted := uses("classroom", root).get("bookbuild"):
        right = MARGIN + 2 * (width + GAP)
        parts += _arrow(right, top + 26, right - GAP, top + 26, "", 0)
        parts += [
            _text(right - GAP / 2, top + 48 + LINE * line, each, "middle", FAINT, 13)
            for line, each in enumerate(sorted(wanted))
        ]
    parts += _floors(below)
    bottom = below + _floors_height() + 10
    parts += _ground(bottom, root)
    return _svg("\n".join(parts), bottom + 96)


def _names(package: str, root: Path) -> list[str]:
    """The modules of a package as its room shows them, a subpackage with a stroke."""
    found = {name.split(".")[1] for name in modules(package, root) if "." in name} - {"__main__"}
    return sorted(f"{name}/" if (root / package / name).is_dir() else name for name in found)


def _said(wanted: set[str]) -> str:
    names = sorted(wanted - {""})
    return f"imports {', '.join(names)}" if len(names) <= 3 else f"imports {len(names)} of its modules"


def _wrapped(names: list[str], width: float, size: float = 7.3) -> list[str]:
    """The names in lines that fit into a width; the width of a letter is that of a typical sans-serif face."""
    lines = [""]
    for name in names:
        longer = f"{lines[-1]}  {name}".strip() if lines[-1] else name
        if len(longer) * size > width:
            lines.append(name)
        else:
            lines[-1] = longer
    return lines


def _roof(top: float, bottom: float) -> str:
    left, right, middle = MARGIN, WIDTH - MARGIN, WIDTH / 2
    shape = f'<path d="M {left} {bottom} L {middle} {top - 20} L {right} {bottom} Z" fill="#eeeeee" stroke="{INK}"/>'
    words = _text(middle, bottom - 38, "tests/", "middle", INK, 17, bold=True)
    return f"{shape}\n{words}\n" + _text(
        middle, bottom - 16, "the tree of the code again; may import all", "middle", FAINT
    )


def _room(
    left: float, top: float, width: float, height: float, title: str, does: str, lines: list[str], tint: str
) -> list[str]:
    parts = [f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" fill="{tint}" stroke="{INK}"/>']
    parts += [_text(left + 12, top + 24, title, "start", INK, 17, bold=True)]
    parts += [_text(left + 12, top + 44, does, "start", FAINT)]
    return parts + [_text(left + 12, top + 66 + LINE * place, line, "start", INK) for place, line in enumerate(lines)]


def _floor_lines(names: list[str], letters: int = 105) -> list[list[str]]:
    """The names of a floor in as many lines as it takes."""
    lines: list[list[str]] = [[]]
    for name in names:
        if sum(len(each) + 2 for each in [*lines[-1], name]) > letters:
            lines.append([])
        lines[-1].append(name)
    return lines


def _floors_height() -> float:
    return 52 + sum(62 + LINE * (len(_floor_lines(names)) - 1) for _, names in FLOORS) + 8


def _floors(top: float) -> list[str]:
    left, width = MARGIN, WIDTH - 2 * MARGIN
    says = DOES["vaelib"] + "; what begins with _ is machinery"
    parts = _room(left, top, width, _floors_height(), "vaelib/", says, [], TINTS["vaelib"])
    above = top + 54
    for number, (what, names) in reversed(list(enumerate(FLOORS))):
        lines = _floor_lines(names)
        height = 56 + LINE * (len(lines) - 1)
        box = f'x="{left + 10:g}" y="{above:g}" width="{width - 20:g}" height="{height:g}"'
        parts += [f'<rect {box} fill="#fff" stroke="{FAINT}"/>']
        parts += [_text(left + 30, above + 35, str(number), "middle", INK, 20, bold=True)]
        parts += [_text(left + 52, above + 21, what, "start", FAINT)]
        parts += [
            _text(left + 52, above + 43 + LINE * place, line, "start", INK, 14) for place, line in enumerate(lines)
        ]
        above += height + 6
    return parts


def _ground(top: float, root: Path) -> list[str]:
    users = sorted(package for package in MAY_IMPORT if "tools" in uses(package, root))
    words = (
        ("book/", "the text, the one source"),
        ("notebooks/", "made from it, executed"),
        ("tools/", "what installs; imported by " + (" and ".join(users) or "nobody")),
    )
    width = (WIDTH - 2 * MARGIN) / 3
    parts = [f'<line x1="0" y1="{top:g}" x2="{WIDTH}" y2="{top:g}" stroke="{INK}" stroke-width="3"/>']
    for place, (name, does) in enumerate(words):
        parts += [_text(MARGIN + (place + 0.5) * width, top + 30, name, "middle", INK, 17, bold=True)]
        parts += [_text(MARGIN + (place + 0.5) * width, top + 51, does, "middle", FAINT)]
    rule = "An arrow points to what is imported. Within vaelib imports go down, and on a floor to the left."
    return [*parts, _text(WIDTH / 2, top + 82, rule, "middle", INK)]


def _arrow(x1: float, y1: float, x2: float, y2: float, words: str, aside: float) -> list[str]:
    parts = [
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" stroke-width="1.6"'
        ' marker-end="url(#tip)"/>'
    ]
    return parts + ([_text(x1 + aside, (y1 + y2) / 2 + 4, words, "start", FAINT)] if words else [])


def _text(x: float, y: float, words: str | list[str], anchor: str, ink: str, size: int = 13, bold: bool = False) -> str:
    """A line of words, or of the names of modules, of which those that are machinery are fainter."""
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{ink}"{weight}'
    if isinstance(words, str):
        return f'<text {place} xml:space="preserve">{escape(words)}</text>'
    names = [f'<tspan fill="{FAINT}">{name}</tspan>' if name.startswith("_") else name for name in words]
    return f'<text {place} xml:space="preserve">{"  ".join(names)}</text>'


def _svg(content: str, height: float) -> str:
    box = 'viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto"'
    tip = f'<marker id="tip" {box}><path d="M 0 0 L 10 5 L 0 10 Z"/></marker>'
    size = f'viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n'
        f"<title>The packages of the book, and the floors of vaelib</title>\n<defs>{tip}</defs>\n"
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{content}\n</svg>\n'
    )


def main(arguments: list[str] | None = None) -> int:
    """Draws the house as it stands."""
    parser = argparse.ArgumentParser(prog="python -m bookbuild house", description=f"Draws {PICTURE}.")
    parser.parse_args(arguments)
    atomic_write(ROOT / PICTURE, picture())
    print(PICTURE)
    return 0
