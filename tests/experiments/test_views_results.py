"""The stored results for novel views, and small runs of the script that makes them."""

import json
import math
from pathlib import Path

import pytest
import torch
from scipy.ndimage import gaussian_filter

from experiments import measure_views as script
from experiments import novel_views
from vaelib import data, pretrained, scene
from vaelib._made import Rendered
from vaelib._sets import SETS

PATH = Path(__file__).resolve().parents[2] / "book/results/views.json"
STORED = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {}


def test_each_stored_part_says_how_it_was_made() -> None:
    assert {"question", "rivals", "tuning", "evaluation", "yes", "summary", "compared"} <= set(STORED)
    assert all({"blurred", "edges"} <= set(arm) for arm in STORED["parts"]["shipped"]["arms"].values())
    assert {"tuning", "rivals", "shipped", *(f"seed {seed}" for seed in script.SEEDS)} <= set(STORED["parts"])
    for part in STORED["parts"].values():
        assert {"command", "provenance", "cpu_minutes"} <= set(part)
    tried = STORED["parts"]["tuning"]["objective"]
    for kind, rate in STORED["parts"]["tuning"]["rates"].items():
        assert float(min(tried[kind], key=tried[kind].__getitem__)) == rate


def test_what_is_compared_follows_from_the_stored_runs() -> None:
    assert STORED["compared"] == script.compare(STORED["parts"])


def test_stored_errors_of_the_shipped_model_and_of_copies_are_found_again() -> None:
    test = data.load("scene", "test")
    rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: script.TEST]
    assert test.factors is not None
    seen = script.views(test.factors[rows], seed=0)
    assert torch.equal(seen.x, test.images[rows])
    made = {"shipped": script.turned(pretrained.load("scene-cvae"), seen), "rivals": seen.x.expand(seen.truth.shape)}
    for part, arm in (("shipped", "cvae"), ("rivals", "copy")):
        errors = [novel_views.rmse(some, truth) for some, truth in zip(made[part], seen.truth, strict=True)]
        # float32, summed in another order
        assert errors == pytest.approx(STORED["parts"][part]["arms"][arm]["rmse"], abs=1e-4)


def test_the_seam_of_an_angle_is_no_seam_of_the_circle() -> None:
    angle = torch.tensor([0.0, 2 * math.pi - 1e-3])
    here, there = novel_views.circle(angle)
    assert (here - there).norm() < 2e-3
    assert novel_views.apart(angle[:1], angle[1:]) == pytest.approx(1e-3, abs=1e-5)


def test_a_view_is_rendered_from_the_azimuth_that_is_asked_for() -> None:
    factors = scene.draw_factors(5, seed=3)
    seen = novel_views.views(factors, seed=0)
    assert torch.equal(seen.x, scene.render(factors)) and torch.equal(seen.truth[0], seen.x)
    off = novel_views.apart(seen.turned[..., 0], factors[:, 0]) * 180 / math.pi
    torch.testing.assert_close(off, torch.tensor(novel_views.TURNS)[:, None].float().expand(-1, 5), atol=1e-3, rtol=0)
    assert torch.equal(seen.turned[..., 1:], factors[:, 1:].expand(7, 5, 4))
    assert not novel_views.changed(seen.truth[0], seen.x).any() and novel_views.changed(seen.truth[3], seen.x).any()


def test_rmse_of_known_pictures() -> None:
    one, other = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    other[0, :, 0, 0] = 0.5
    assert novel_views.rmse(one, other) == pytest.approx(0.5 / math.sqrt(32), abs=1e-5)
    assert novel_views.rmse(one, other, novel_views.changed(one, other)) == pytest.approx(0.5)
    assert novel_views.rmse(one, one, novel_views.changed(one, one)) is None


def test_a_blurred_picture_is_scipys_and_edges_are_differences() -> None:
    pictures = torch.rand(2, 3, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = gaussian_filter(pictures.numpy(), 1.0, axes=(2, 3), mode="nearest", truncate=3)
    torch.testing.assert_close(novel_views.blurred(pictures), torch.from_numpy(wanted))
    ramp = (torch.arange(5.0)[:, None] * 2 + torch.arange(4.0)).expand(1, 3, 5, 4)  # 2 down, 1 across
    found = novel_views.edges(ramp)
    assert found.shape == (1, 6, 4, 3) and (found[:, :3] == 1).all() and (found[:, 3:] == 2).all()
    seen = novel_views.views(scene.draw_factors(3, seed=3), seed=0)
    reader = novel_views.Reader(0)
    of = novel_views.looked_at(novel_views.blurred(seen.truth.flatten(0, 1)).unflatten(0, (7, 3)), seen, reader)
    assert min(of["blurred"]) > 0 and all(a < b for a, b in zip(of["blurred"], of["rmse"], strict=True))


def test_the_nearest_training_picture_is_found_across_the_seams() -> None:
    known = scene.draw_factors(400, seed=1)
    weight = novel_views.weights(20)
    assert (weight > 0).all()
    moved = known[:30].clone()
    moved[:, 0] += 2 * math.pi
    moved[:, 3] += 1
    assert novel_views.nearest(moved, known, weight).tolist() == list(range(30))
    pictures = scene.render(known[:40])
    assert novel_views.nearest_picture(pictures[10:20], pictures).tolist() == list(range(10, 20))
    rows = novel_views.nearest_within(pictures[:5], pictures, known[:5, 0] + 2 * math.pi, known[:40, 0], 5.0)
    assert rows.tolist() == list(range(5))
    near = novel_views.nearest_within(pictures[:5], pictures[20:], known[20:25, 0], known[20:40, 0], 1e-3)
    assert near.tolist() == list(range(5))  # the azimuth decides who may be chosen


def test_a_probe_finds_an_angle_that_is_there_and_none_that_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(2000, generator=generator) * 2 * math.pi
    noise = torch.randn(2000, 2, generator=generator)
    there = script.probed(
        novel_views.circle(angle[:1500]), angle[:1500], novel_views.circle(angle[1500:]), angle[1500:]
    )
    absent = script.probed(noise[:1500], angle[:1500], noise[1500:], angle[1500:])
    assert min(there.values()) > 0.99 and max(absent.values()) < 0.05


def test_codes_on_the_fitted_circle_come_back_after_a_full_turn() -> None:
    fitted = script.linear(novel_views.circle(torch.arange(20.0)), torch.randn(20, 3))
    a = torch.tensor([0.4])
    torch.testing.assert_close(fitted(novel_views.circle(a)), fitted(novel_views.circle(a + 2 * math.pi)))


def test_script_runs_on_few_scenes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(SETS, "scene", Rendered("scene", {"train": (300, 0), "test": (60, 1)}))
    monkeypatch.setenv("VAELIB_CACHE", str(tmp_path))
    monkeypatch.setattr(script, "RESULTS", tmp_path / "views.json")
    for name, value in {
        "EPOCHS": 1,
        "LONG_EPOCHS": 1,
        "FEWER": (50, 100),
        "TEST": 12,
        "HELD_OUT": 50,
        "DRAWS": 9,
        "AROUND": 3,
        "WINDOW": 90.0,
        "RATES": (1e-4, 2e-4, 4e-4),
    }.items():
        monkeypatch.setattr(script, name, value)
    for cached in (script.reader_of, script.second_views):
        cached.cache_clear()
    monkeypatch.setattr(script.shared, "chosen", lambda parts, *rest: [p for p in parts if p != "shipped"])
    script.main()
    found = script.shared.read(script.RESULTS)
    assert found["compared"]["best training picture"] in ("reader", "pixels", "codes")
    truth = found["parts"]["rivals"]["arms"]["truth"]
    assert truth["rmse"] == [0.0] * 7 and truth["changed"][1:] == [0.0] * 6
    told_the_answer = found["parts"]["rivals"]["arms"]
    turned = {arm: sum(told_the_answer[arm]["rmse"]) for arm in told_the_answer}
    assert turned["true pixels"] <= min(turned[arm] for arm in ("true factors", "reader", "pixels")) + 1e-4
    for cached in (script.reader_of, script.second_views):
        cached.cache_clear()
