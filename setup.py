"""Which packages an installation has: vaelib alone or, editable from a clone, those that make the book too.

All else is in pyproject.toml. Named one by one, the packages are found wherever the clone lies; its whole folder on
Python's path would not do: with LC_ALL=C, Python 3.11 does not even start where that path holds a letter beyond ASCII.
"""

import sys

from setuptools import find_packages, setup

LIBRARY = ["vaelib", "vaelib.*"]
CLONE = ["bookbuild", "bookbuild.*", "classroom", "experiments", "tools"] if "editable_wheel" in sys.argv else []

setup(packages=find_packages(include=[*LIBRARY, *CLONE]))
