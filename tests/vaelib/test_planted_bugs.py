"""Each bug of tests/proofs/plant_bugs.py can still be planted: what it replaces stands once in its module.

That unit tests and chapters notice each of them takes an hour to show, and is shown by running that script.
"""

import pytest

from tests.proofs.plant_bugs import BUGS, ROOT, UNIT_TESTS


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_has_one_place_in_the_code_and_tests_and_chapters_that_should_notice(bug):
    source = (ROOT / f"vaelib/{bug.module}.py").read_text(encoding="utf-8")
    assert source.count(bug.right) == 1 and bug.right != bug.wrong
    compile(source.replace(bug.right, bug.wrong), bug.module, "exec")
    assert (ROOT / f"tests/vaelib/test_{UNIT_TESTS.get(bug.module, bug.module)}.py").is_file()
    assert all(len(list(ROOT.glob(f"notebooks/{chapter}_*.ipynb"))) == 1 for chapter in bug.chapters)
