"""The scene against geometry that is worked out another way: marching along rays, projecting points, SciPy's filter."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from vaelib import _rays, scene

REFERENCE = Path(__file__).with_name("scene.png")


def one(azimuth: float = 0.0, height: float = 2.2, blur: float = 0.0, hue: float = 0.0, kind: int = 0) -> torch.Tensor:
    return torch.tensor([[azimuth, height, blur, hue, kind]], dtype=torch.float64)


def inside(kind: str, x, y, z):
    """A function of space that is negative in a solid, positive outside and zero on its surface."""
    radius, top = _rays.RADIUS[kind], _rays.TOP[kind]
    far = np.sqrt(x**2 + y**2)
    if kind == "sphere":
        return np.sqrt(x**2 + y**2 + (z - radius) ** 2) - radius
    if kind == "cube":
        return np.max([abs(x) - radius, abs(y) - radius, z - top, -z], axis=0)
    if kind == "cylinder":
        return np.max([far - radius, z - top, -z], axis=0)
    return np.max([far - radius * (top - z) / top, z - top, -z], axis=0)


def some_rays(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rays from where cameras stand to points near the solid; and, the last third, from the ground to the sun."""
    draw = np.random.default_rng(0)
    angle, height = draw.uniform(0, 2 * np.pi, n), draw.uniform(1, 3.6, n)
    level = np.sqrt(25 - (height - 0.62) ** 2)
    origin = np.stack([level * np.cos(angle), level * np.sin(angle), height])
    towards = draw.uniform(-1.2, 1.2, (3, n)) + np.array([[0], [0], [0.8]])
    along = (towards - origin) / 5
    third = slice(2 * n // 3, n)
    origin[:2, third], origin[2, third] = draw.uniform(-2.5, 2.5, (2, n - 2 * n // 3)), 0
    along[:, third] = np.array(_rays.SUN)[:, None]
    return origin.astype(np.float32), along.astype(np.float32)


@pytest.mark.parametrize("kind", scene.KINDS)
def test_rays_end_where_marching_in_small_steps_first_enters_the_solid(kind):
    origin, along = some_rays(900)
    with np.errstate(all="ignore"):
        near, _ = _rays.SOLIDS[kind](tuple(origin[:, None, None]), tuple(along[:, None, None]))
    near = near.squeeze()
    steps = np.arange(0.0025, 12, 0.005)
    points = origin.astype(np.float64)[:, :, None] + along.astype(np.float64)[:, :, None] * steps
    depth = inside(kind, *points)
    entered = (depth < 0).any(1)
    first = steps[(depth < 0).argmax(1)]
    clear = abs(depth.min(1)) > 0.01  # a step and a half: rays that graze an edge may be seen to miss it
    camera = np.arange(900) < 600
    assert entered.mean() > 0.2
    assert np.array_equal(np.isfinite(near)[clear], entered[clear])
    both = clear & entered & camera
    assert abs(near[both] - first[both]).max() < 0.03  # a ray that enters at a slant is found steps later


@pytest.mark.parametrize("kind", scene.KINDS)
def test_normals_are_the_gradients_of_the_surface(kind):
    origin, along = (each[:, :2000] for each in some_rays(3000))
    with np.errstate(all="ignore"):
        near, normal = _rays.SOLIDS[kind](tuple(origin[:, None, None]), tuple(along[:, None, None]))
    hit = np.isfinite(near.squeeze())
    point = (origin + along * near.squeeze())[:, hit].astype(np.float64)
    found = np.stack([np.broadcast_to(each, near.shape).squeeze()[hit] for each in normal])
    steps = 1e-3 * np.eye(3)
    slope = [(inside(kind, *(point + e[:, None])) - inside(kind, *(point - e[:, None]))) / 2e-3 for e in steps]
    slope = np.stack(slope) / np.linalg.norm(slope, axis=0)
    agree = (found * slope).sum(0)
    edge = np.mean(agree < 0.999)  # at an edge the gradient mixes two sides
    assert edge < 0.02
    assert abs(np.linalg.norm(found, axis=0) - 1).max() < 2e-3  # close to the tip of a cone, where its width is rounded


def projected(azimuth: float, height: float, point: tuple[float, float, float], size: int) -> tuple[int, int]:
    """Row and column of a point in a picture, by a rotation matrix and a pinhole."""
    down = math.asin((height - _rays.LOOKED_AT) / _rays.DISTANCE)
    turn = np.array([[math.cos(azimuth), math.sin(azimuth), 0], [-math.sin(azimuth), math.cos(azimuth), 0], [0, 0, 1]])
    tilt = np.array([[math.cos(down), 0, math.sin(down)], [0, 1, 0], [-math.sin(down), 0, math.cos(down)]])
    towards, right, up = tilt @ turn @ (np.array(point) - (0, 0, _rays.LOOKED_AT))
    scale = size / 2 / _rays.SPREAD / (_rays.DISTANCE - towards)
    return int(size / 2 - up * scale), int(size / 2 + right * scale)


@pytest.mark.parametrize(("azimuth", "height"), [(0.0, 2.2), (0.9, 3.0), (-1.2, 3.6), (7.0, 1.4)])
def test_the_camera_goes_round_as_a_pinhole_would_and_the_mark_is_where_it_projects_to(azimuth, height):
    picture = scene.render(one(azimuth, height, kind=3), 256)[0]
    row, column = projected(azimuth, height, (*_rays.MARK, 0), 256)
    assert picture[:, row, column].max() < 0.41
    for radius, bright in ((0.85 * _rays.MARK_SIZE, False), (1.25 * _rays.MARK_SIZE, True)):
        for angle in (0.0, 2.1, 4.2):
            x, y = _rays.MARK[0] + radius * math.cos(angle), _rays.MARK[1] + radius * math.sin(angle)
            row, column = projected(azimuth, height, (x, y, 0), 256)
            # In the shadow the turntable is as bright as 0.44, and in the sun the mark as 0.38.
            assert (picture[:, row, column].max() > 0.41) == bright, (radius, angle)


def test_the_shadow_lies_away_from_the_sun():
    # Seen from where the sun stands, a solid hides its shadow; seen from the other side, the shadow lies in front.
    towards = math.atan2(_rays.SUN[1], _rays.SUN[0])
    assert math.hypot(*_rays.SUN) == pytest.approx(1, abs=1e-4)
    place = tuple(-0.9 * each / math.hypot(*_rays.SUN[:2]) for each in _rays.SUN[:2])
    behind = scene.render(one(towards + math.pi, 3.0, kind=2), 256)[0]
    row, column = projected(towards + math.pi, 3.0, (*place, 0), 256)
    lit = scene.render(one(towards, 3.0, kind=2), 256)[0]
    opposite = tuple(-each for each in place)
    row_lit, column_lit = projected(towards, 3.0, (*opposite, 0), 256)
    assert lit[1, row_lit, column_lit] > 0.8 and behind[1, row, column] < 0.55


def test_hue_zero_is_red_a_third_green_and_two_thirds_blue_in_this_order_of_channels():
    for kind in range(4):
        for hue, channel in ((0.0, 0), (1 / 3, 1), (2 / 3, 2), (1.0, 0), (-1 / 3, 2)):
            middle = scene.render(one(hue=hue, kind=kind))[0, :, 14:18, 14:18].mean((1, 2))
            others = [each for each in range(3) if each != channel]
            assert middle[channel] > 1.4 * middle[others].max(), (kind, hue)
    # The sky is blue and the turntable warm, whatever the hue is.
    sky = scene.render(one(height=1.0))[0, :, 0].mean(1)
    assert sky[2] > sky[1] > sky[0]


def test_azimuth_and_hue_are_circles():
    start = scene.render(one(azimuth=0.3, hue=0.1))
    # A float64 angle a turn later differs by 4e-16; no edge is that close to a ray.
    assert torch.equal(start, scene.render(one(azimuth=0.3 + 2 * math.pi, hue=0.1)))
    assert torch.equal(start, scene.render(one(azimuth=0.3 - 2 * math.pi, hue=1.1)))


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("height", [1.0, 2.2, 3.6])
def test_every_azimuth_looks_different_even_where_the_solid_is_round(kind, height):
    angles = np.arange(24) / 24 * 2 * math.pi
    pictures = scene.render(torch.cat([one(angle, height, kind=kind) for angle in angles])).flatten(1)
    away = torch.cdist(pictures, pictures) + 100 * torch.eye(24)
    # 15 degrees apart: more than a tenth of a grey level at each of 3,072 numbers, more than noise of 1/255 would be.
    assert away.min() > 1.0
    neighbours = {tuple(sorted(((i - 1) % 24, (i + 1) % 24))) for i in range(24)}
    nearest = {tuple(sorted(row.argsort()[:2].tolist())) for row in away}
    assert len(nearest & neighbours) >= 20  # the pictures lie on a closed curve, in the order of the angle


def test_blur_is_a_gaussian_filter_of_the_light():
    sigma = np.array([0.0, 0.4, 1.0, 1.5])
    light = np.random.default_rng(0).random((4, 3, 20, 20), dtype=np.float32)
    found = _rays.blurred(light, sigma, reach=4)
    assert np.array_equal(found[0], light[0])
    for picture, blurred, width in zip(light[1:], found[1:], sigma[1:], strict=True):
        wanted = ndimage.gaussian_filter(picture.astype(float), (0, width, width), mode="nearest", radius=4)
        assert abs(blurred - wanted).max() < 1e-6  # of float32


def test_a_picture_does_not_depend_on_those_drawn_with_it():
    factors = scene.draw_factors(24, seed=5)
    together = scene.render(factors)
    alone = torch.cat([scene.render(row[None]) for row in factors])
    assert torch.equal(together, alone)
    assert torch.equal(scene.render(factors.flip(0)).flip(0), together)


def test_no_solid_reaches_beyond_the_window_in_which_it_is_looked_for(monkeypatch):
    ends = [one(a, h, kind=kind) for kind in range(4) for h in (1.0, 2.0, 3.0, 3.6) for a in (0.0, 0.4, math.pi / 4)]
    factors = torch.cat(ends)
    found = scene.render(factors)
    monkeypatch.setattr(_rays, "WINDOW", ((0, 1), (0, 1)))
    assert torch.equal(scene.render(factors), found)


def test_no_ray_is_as_steep_as_the_side_of_the_cone():
    side = math.atan(_rays.TOP["cone"] / _rays.RADIUS["cone"])
    steepest = math.asin((scene.FACTORS[1].high - _rays.LOOKED_AT) / _rays.DISTANCE) + math.atan(_rays.SPREAD)
    assert steepest < side and math.asin(_rays.SUN[2]) < side


def test_pictures_are_bytes_over_255_and_larger_ones_show_the_same():
    factors = scene.draw_factors(8, seed=2)
    small, large = scene.render(factors), scene.render(factors, 96)
    assert small.shape == (8, 3, 32, 32) and small.dtype == torch.float32
    assert torch.equal((small * 255).round() / 255, small)
    assert 0 <= small.min() < 0.2 and 0.9 < small.max() <= 1
    means = (large.square().unflatten(3, (32, 3)).unflatten(2, (32, 3)).mean((3, 5))).sqrt()
    assert (means - small).abs().mean() < 0.01


def test_pictures_are_those_of_every_other_platform_within_a_step():
    stored = np.asarray(Image.open(REFERENCE).convert("RGB")).reshape(4, 32, 8, 32, 3)
    wanted = torch.from_numpy(stored.transpose(0, 2, 4, 1, 3).reshape(32, 3, 32, 32).astype(np.float32) / 255)
    found = scene.render(scene.draw_factors(32, seed=0))
    assert (found - wanted).abs().max() < 1.5 / 255


def test_a_processor_with_fewer_instructions_draws_the_same_bytes():
    code = "from vaelib import scene; print(scene.in_bytes(scene.draw_factors(60, 3).double().numpy()).tobytes().hex())"
    # Names of several versions of NumPy, which passes over those that it doesn't know.
    fewer = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX2 FMA3 AVX512F AVX512_SKX"}
    environment = os.environ | fewer | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout) == scene.in_bytes(scene.draw_factors(60, 3).double().numpy()).tobytes()


def test_factors_are_uniform_and_the_same_everywhere():
    factors = scene.draw_factors(20_000, seed=1).double()
    assert factors.shape == (20_000, 5)
    for column, each in zip(factors.T, scene.FACTORS, strict=True):
        assert each.low <= column.min() and column.max() <= each.high
        if each.name != "kind":
            middle, width = (each.low + each.high) / 2, each.high - each.low
            # Five standard errors of the mean of 20,000 uniform numbers.
            assert abs(column.mean() - middle) < 5 * width / math.sqrt(12 * 20_000)
            assert column.std().item() == pytest.approx(width / math.sqrt(12), rel=0.02)
    counts = factors[:, 4].long().bincount()
    assert (counts - 5000).abs().max() < 5 * math.sqrt(20_000 * 3 / 16)
    assert factors.T.corrcoef().fill_diagonal_(0).abs().max() < 5 / math.sqrt(20_000)
    # PCG64's stream is fixed: the first numbers of seed 0, written down from NumPy's own generator.
    uniform = np.random.Generator(np.random.PCG64(0)).random(5)
    first = scene.draw_factors(1, seed=0)[0]
    assert first[0].item() == pytest.approx(2 * math.pi * uniform[0], abs=1e-6)
    assert first[4].item() == math.floor(4 * uniform[4])
    assert not torch.equal(scene.draw_factors(3, 0), scene.draw_factors(3, 1))
    assert scene.draw_factors(0).shape == (0, 5) and scene.render(scene.draw_factors(0)).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (one()[0], "a row for each picture"),
        (one()[:, :4], "azimuth, height, blur, hue, kind"),
        (one(height=4.0), r"height of picture 0 is 4: it must be 1 to 3\.6"),
        (torch.cat([one(), one(blur=-0.1)]), r"blur of picture 1 is -0\.1"),
        (one(blur=math.nan), "blur of picture 0 is nan"),
        (one(azimuth=math.inf), "azimuth of picture 0 is inf: it must be any finite number"),
        (torch.cat([one(kind=1), one(kind=4)]), "kind of picture 1 is 4: it must be a whole number, 0 to 3"),
        (one() + 0.5, "kind of picture 0"),
    ],
)
def test_factors_that_have_no_picture_are_refused_by_name(wrong, said):
    with pytest.raises(ValueError, match=said):
        scene.render(wrong)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "32"])
def test_sizes_that_are_none_are_refused(size):
    with pytest.raises(ValueError, match="size is"):
        scene.render(one(), size)


def test_arrays_lists_and_float32_are_factors_too():
    wanted = scene.render(one())
    for given in (one().numpy(), one().float(), one().tolist()):
        assert torch.equal(scene.render(given), wanted)
    for wrong in (-1, 2.5, True):
        with pytest.raises(ValueError, match="n is"):
            scene.draw_factors(wrong)
    with pytest.raises(ValueError, match="seed is"):
        scene.draw_factors(2, seed=-1)
