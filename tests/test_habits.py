"""What surrounds the work: the checks before a commit are those of `make check`, and the workflows can be read."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_the_hooks_before_a_commit_are_the_lines_of_make_check():
    recipe = re.search(r"(?m)^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    lines = [line.strip().replace("$(PY)", ".venv/bin/python") for line in recipe[1].splitlines()]
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repo["repo"] for repo in config["repos"]} == {"local"}  # others would be downloaded
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [hook["entry"] for hook in hooks] == lines, "a line of `make check` needs a hook in .pre-commit-config.yaml"
    assert not any(hook["pass_filenames"] for hook in hooks)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_says_when_it_runs_what_it_may_do_and_how_long(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow[True]  # YAML 1.1 takes the key `on` for a yes
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job.get("uses", "").startswith("./.github/") or 0 < job["timeout-minutes"] <= 60


def test_what_a_workflow_of_ours_calls_is_there():
    used = re.findall(r"uses: (\./\S+)", "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS))
    assert used and all((ROOT / path).is_file() for path in used)


@pytest.mark.parametrize("name", ["pip", "github-actions"])
def test_dependabot_looks_at(name):
    config = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    assert name in {update["package-ecosystem"] for update in config["updates"]}
