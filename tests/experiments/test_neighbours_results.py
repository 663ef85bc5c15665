"""The stored numbers on pictures beside the test pictures and on fewer steps, and small runs of the script."""

import pytest
import torch

from experiments import measure_neighbours as script
from experiments import shared

STORED = shared.read(script.RESULTS)
PARTS = STORED["parts"]
pictures, colour = script.pictures, script.colour


def test_each_stored_part_says_how_it_was_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation"} <= set(STORED)
    assert set(PARTS) == set(script.PARTS)
    for name, part in PARTS.items():
        assert part["command"] == f"python -m experiments.measure_neighbours '{name}'"
        assert {"threads", "device", "processor", "torch", "code", "date"} <= set(part["provenance"])


def test_differences_follow_from_the_stored_runs() -> None:
    part = PARTS["neighbours"]
    assert part["seeds"] == pictures.OTHER_SEEDS
    assert script.compared(part["bits"]) == {key: part[key] for key in ("above copies", "elsewhere above")}
    runs = PARTS["fewer steps"]["runs"]
    for best, test, tried, tests in zip(*runs.values(), strict=True):
        at = tried.index(min(tried))  # chosen by the validation pictures, not by the test
        assert (best, test) == (script.STEPS[at], tests[at])
    pairs = zip(runs["test"], script.stored("few", "3500", "test"), strict=True)
    assert PARTS["fewer steps"]["above_all"] == colour.interval([a - b for a, b in pairs])


def test_differences_by_photograph_follow_from_the_stored_bits() -> None:
    part = PARTS["another photograph"]
    assert part["seeds"] == script.OTHERS and set(part["bits"]) == {"temple", "flower", "portrait"}
    for name, found in part["bits"].items():
        for arm, gap in part["above_logistic"][name].items():
            pairs = zip(found[arm], found[colour.LOGISTIC], strict=True)
            assert gap == colour.interval([a - b for a, b in pairs])


def test_the_portrait_is_cut_into_squares_of_its_own_pixels() -> None:
    found = script.portrait()
    assert found.shape == (288, 3, 32, 32)
    with script.get_sample_data("grace_hopper.jpg") as file:
        picture = torch.tensor(script.np.array(script.Image.open(file)))
    assert torch.equal((255 * found[17]).round().byte().permute(1, 2, 0), picture[32:64, 32:64])  # 16 to a row


def test_with_all_steps_the_run_is_that_of_few_pictures() -> None:
    again = [each[script.STEPS.index(660)] for each in PARTS["fewer steps"]["runs"]["test bits"]]
    assert again == pytest.approx(script.stored("few", "100", "test"), abs=0.15)


def test_script_runs_on_a_few_patches_and_neighbours_share_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    _, validation = colour.patches()
    number = torch.arange(3500.0).view(2, 50, 35, 1, 1, 1).expand(2, 50, 35, 1, 1, 1)
    seen = []
    monkeypatch.setattr(script.colour, "patches", lambda: (number, validation))
    monkeypatch.setattr(script.pictures, "bits_of", lambda own, shown, *_: seen.append((own, *shown)) or [6.0])
    assert script.neighbours(steps=1)["bits"] == [6.0] * 5
    for own, held_out in seen:
        place, theirs = (each.flatten().long() for each in (own, held_out))
        assert len(place) == 100 and len(theirs) == 24
        same = place[:, None] // 1750 == theirs // 1750
        down = (place[:, None] % 1750 // 35 - theirs % 1750 // 35).abs()
        away = torch.maximum(down, (place[:, None] % 35 - theirs % 35).abs())
        nearest = torch.where(same, away, 99).amin(1)  # in steps of 8 pixels; a patch has 32
        assert nearest.min() == 4 and nearest.max() == 6


def test_a_stored_run_is_found_again_from_scratch() -> None:
    fitted = colour.patches()[0].reshape(-1, *colour.SHAPE)
    own = fitted[torch.randperm(len(fitted), generator=torch.Generator().manual_seed(0))[:100]]
    [found] = pictures.bits_of(own, [script.data.load("patches", "test").images], 0, 165)
    assert found == pytest.approx(PARTS["fewer steps"]["runs"]["test bits"][0][0], abs=0.15)  # other roundings
