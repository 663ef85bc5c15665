"""The package itself: one version, and modules that are there when they are named."""

import tomllib
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import vaelib

ROOT = Path(__file__).resolve().parents[2]
OLD_NAMES = {"explorer", "sliders"}


def test_the_package_its_metadata_and_the_citation_name_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert vaelib.__version__ == project["version"] == citation["version"]


def test_every_public_module_is_listed_and_comes_when_it_is_named():
    files = {path.name.removesuffix(".py") for path in Path(vaelib.__file__).parent.iterdir()}
    modules = {name for name in files if not name.startswith(("_", ".")) and "." not in name}
    wanted = modules - OLD_NAMES - {"static", "weights"}
    assert wanted >= {"data", "vae", "training", "likelihoods", "widgets"}
    assert {name for name in dir(vaelib) if not name.startswith("_")} - OLD_NAMES >= wanted
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in wanted:
            assert isinstance(getattr(vaelib, name), ModuleType), name


@pytest.mark.parametrize("name", ["nonsense", "_files_", "__wrapped__"])
def test_what_is_no_module_is_no_attribute(name):
    assert not hasattr(vaelib, name)
