"""The tool that puts nonsense in the place of what assertions check finds those that can't fail, and only those."""

import pytest

from tests.proofs.nonsense import Cell, examine

SET_UP = Cell(
    "set-up", "import numpy as np\nimport torch\nfrom torch.testing import assert_close\nx = torch.arange(9.0)"
)


def tried(source):
    """What became of the one assertion of a cell: the names tried and those noticed."""
    [found] = examine([SET_UP, Cell("here", source)]).values()
    return found


@pytest.mark.parametrize(
    "source",
    [
        "assert (x == x).all()",
        "assert len(x) == 9",
        "a = 3.0\nassert a * 0 == 0",
        "values = [1.0, 2.0]\nassert sum(values) - sum(values) == 0",
        "assert_close(x, x)",
    ],
)
def test_an_assertion_that_cannot_fail_is_found(source):
    found = tried(source)
    assert found.names
    assert not found.noticed


@pytest.mark.parametrize(
    "source",
    [
        "assert abs(x.mean() - 4) < 0.1",
        "a = 3\nassert a == 3",
        "rows = np.eye(3)\nassert np.allclose(rows.sum(0), 1)",
        "values = {'a': 1.0, 'b': 1.0}\nassert max(values.values()) - min(values.values()) < 1e-6",
        "model = torch.nn.Linear(2, 1)\nassert model.weight.abs().max() < 1",
        "def f(a):\n    return a + 1\n\nassert f(2) == 3",
        "y = x.clone()\nassert_close(y, torch.arange(9.0))",
        "for a in (1, 1):\n    assert a == 1",
        "def inside():\n    a = 2.0\n    assert a == 2\n\ninside()",
    ],
)
def test_an_assertion_that_can_fail_is_noticed(source):
    found = tried(source)
    assert found.noticed


def test_trials_change_nothing_that_the_chapter_goes_on_with():
    draw = "generator = torch.Generator().manual_seed(0)\nassert torch.randn(1, generator=generator) < 9 * x.max()"
    after = "assert torch.randn(1, generator=generator).item() == second"
    first = (
        "g = torch.Generator().manual_seed(0)\ntorch.randn(1, generator=g)\nsecond = torch.randn(1, generator=g).item()"
    )
    assert len(examine([SET_UP, Cell("first", first), Cell("draw", draw), Cell("after", after)])) == 2


def test_a_cell_that_fails_as_it_is_stops_the_run():
    with pytest.raises(SystemExit, match="here: AssertionError"):
        tried("assert x.sum() == 0")
    tried_on = examine([SET_UP, Cell("here", "raise ValueError", stops=True), Cell("there", "assert x[1] == 1")])
    assert len(tried_on) == 1
