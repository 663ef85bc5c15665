"""Which command of the grader is meant; each is loaded only where it is asked for."""

import sys


def main(arguments: list[str]) -> int:
    """Runs a command with the arguments after its name; its exit status."""
    name, *rest = arguments or [""]
    if name == "grade":
        from classroom import grade

        return grade.main(rest)
    if name == "gradebook":
        from classroom import gradebook

        return gradebook.main(rest)
    print(
        "Usage: python -m classroom grade ... or python -m classroom gradebook ...; --help after either",
        file=sys.stderr,
    )
    return 0 if name in ("-h", "--help") else 2
