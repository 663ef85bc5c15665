"""What experiments share: parts are stored one by one, found again only where they are the same, and listed."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch

from experiments import (
    measure_camera,
    measure_colour,
    measure_evidence,
    measure_mnist,
    measure_neighbours,
    measure_networks,
    measure_networks_longer,
    measure_pictures,
    measure_quadrants,
    measure_uses,
    measure_views,
    shared,
    train_pretrained,
)
from vaelib import data

README = (Path(shared.__file__).parent / "README.md").read_text(encoding="utf-8")
TABLE = [
    [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*\|$", README, re.MULTILINE)
]


def chosen(monkeypatch: pytest.MonkeyPatch, *arguments: str, stored: dict | None = None) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["measure_something", *arguments])
    return list(shared.chosen(["one", "two", "three"], stored or {}, "Measure something: how."))


def test_all_parts_run_in_their_order_or_those_that_are_named(monkeypatch):
    assert chosen(monkeypatch) == ["one", "two", "three"]
    assert chosen(monkeypatch, "three", "one") == ["one", "three"]
    with pytest.raises(SystemExit, match="no such part: four; there are one, two, three"):
        chosen(monkeypatch, "four")


def test_a_run_goes_on_with_what_this_code_has_not_stored(monkeypatch):
    here = shared.provenance()
    stored = {"one": here | {"date": "2001-01-01"}, "two": {"provenance": here}}
    assert chosen(monkeypatch, "--resume", stored=stored) == ["three"]
    assert chosen(monkeypatch, stored=stored) == ["one", "two", "three"]


@pytest.mark.parametrize("key", sorted(shared.provenance().keys() - {"date"}))
def test_a_part_of_other_code_versions_threads_or_device_is_measured_again(monkeypatch, key):
    other = shared.provenance() | {key: "another"}
    missing = {name: value for name, value in shared.provenance().items() if name != key}
    assert chosen(monkeypatch, "--resume", stored={"one": other, "two": missing}) == ["one", "two", "three"]


def test_the_processor_is_named_with_the_instructions_that_are_used(monkeypatch):
    name, _, instructions = shared.processor().rpartition(", ")
    assert name and instructions == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setattr(shared, "Path", lambda path: Path("/no/such/file"))  # another system
    monkeypatch.setattr(shared.platform, "processor", lambda: "")
    monkeypatch.setattr(shared.platform, "machine", lambda: "arm64")
    assert shared.processor.__wrapped__() == f"arm64, {instructions}"


def test_a_part_is_added_to_what_another_run_has_stored_meanwhile(tmp_path):
    path = tmp_path / "results" / "numbers.json"
    shared.store(path, {"mean": 1.5, "values": [1, 2]}, "parts", "one", evaluation="nats")
    other = shared.read(path)
    other["parts"]["two"] = {"mean": 2}
    path.write_text(json.dumps(other))
    shared.store(path, {"mean": 3}, "parts", "three", evaluation="nats")
    assert shared.read(path) == {
        "evaluation": "nats",
        "parts": {"one": {"mean": 1.5, "values": [1, 2]}, "two": {"mean": 2}, "three": {"mean": 3}},
    }
    assert '"values": [ 1, 2 ]' in path.read_text()
    assert [each.name for each in path.parent.iterdir()] == ["numbers.json"]


def test_the_list_of_experiments_names_every_script_and_every_stored_file():
    folder = Path(shared.__file__).parent
    scripts = {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    listed = [found for row in TABLE for found in re.findall(r"experiments\.(\w+)", row[0])]
    assert sorted(listed) == sorted(scripts)
    files = {f"book/results/{path.name}" for path in (shared.ROOT / "book/results").glob("*.json")}
    assert {row[3].strip("`") for row in TABLE if "results" in row[3]} == files
    for row in TABLE:  # the script that is named beside a file is the one that stores it
        if stored := re.search(r"book/results/(\w+)\.json", row[3]):
            script = re.search(r"experiments\.\w+|\S+\.py", row[0])[0].removesuffix(".py").replace(".", "/")
            assert f'shared.results("{stored[1]}")' in (shared.ROOT / f"{script}.py").read_text(encoding="utf-8")


SCRIPTS = (
    measure_camera,
    measure_colour,
    measure_evidence,
    measure_mnist,
    measure_neighbours,
    measure_networks,
    measure_networks_longer,
    measure_pictures,
    measure_quadrants,
    measure_uses,
    measure_views,
    train_pretrained,
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_a_script_lists_its_parts_before_it_loads_anything(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script.__name__, "--help"])
    monkeypatch.setattr(data, "load", lambda *names: pytest.fail("data are loaded"))
    with pytest.raises(SystemExit) as end:
        script.main()
    assert end.value.code == 0 and "--resume" in capsys.readouterr().out
