"""The stored trial of class imbalance (chapter 11): where it comes from, and that its script compares what it says."""

import base64
import datetime
import io
import json

import matplotlib.pyplot as plt
import pytest
import torch

from experiments import measure_imbalance as tool
from vaelib import data
from vaelib.cvae import CVAE

STORED = json.loads(tool.RESULTS.read_text(encoding="utf-8"))
REMEDIES = {"raw", "oversampled", "weighted", "cvae", "cvae, pixels drawn"}
TINY = {
    "classifier": {"hidden_dims": [16], "steps": 60, "batch_size": 32, "learning_rate": 1e-2},
    "cvae": {"hidden_dims": [16], "latent_dim": 2, "epochs": 1, "batch_size": 128, "learning_rate": 5e-3},
}


@pytest.fixture(scope="module")
def few():
    """The digits with a tenth of their eights."""
    return tool.cut(data.load("digits"), 0.1)


@pytest.fixture(scope="module")
def lessons(few):
    return tool.remedies(few, CVAE(64, 10, (8,), 2), torch.Generator().manual_seed(0))


def test_the_results_say_how_they_were_measured():
    assert STORED["command"] == "python -m experiments.measure_imbalance"
    assert STORED["settings"] == tool.SETTINGS and STORED["rare"] == tool.RARE
    assert STORED["threads"] >= 1 and all(STORED[key] for key in ("device", "vaelib", "torch", "python", "cpu_minutes"))
    datetime.date.fromisoformat(STORED["date"])


def test_every_remedy_has_a_value_for_each_share_and_seed():
    assert STORED["seeds"] == tool.SEEDS and len(tool.SEEDS) == 5
    assert set(STORED["shares"]) == {str(share) for share in tool.SHARES}
    for remedies in STORED["shares"].values():
        assert set(remedies) == REMEDIES
        for scores in remedies.values():
            assert set(scores) == {"recall", "precision", "break_even", "accuracy"}
            assert all(len(values) == 5 and all(0 <= value <= 1 for value in values) for values in scores.values())


def test_the_eights_that_were_kept_are_the_share_that_is_named():
    # A tenth of 20,000 images are eights, give or take: 1,951 expected, with a standard deviation of 42.
    for share, counts in STORED["rare_images"].items():
        assert all(abs(count / float(share) - 1951) < 4 * 42 + 50 for count in counts)


def test_every_drawn_eight_was_taken_for_some_digit():
    assert set(STORED["drawn_taken_for"]) == {str(share) for share in tool.SHARES}
    for by_seed in STORED["drawn_taken_for"].values():
        assert len(by_seed) == 5
        # Shares of a thousand images, stored to three digits: they add up but for the rounding of floating point.
        assert all(len(shares) == 10 and abs(sum(shares) - 1) < 1e-9 for shares in by_seed)


def test_the_pictures_are_rows_of_ten_images():
    for png in STORED["png"].values():
        assert plt.imread(io.BytesIO(base64.b64decode(png))).shape[:2] == (28, 280)


def test_the_cut_takes_eights_away_and_nothing_else(few):
    before, after = (torch.bincount(part.labels, minlength=10) for part in (data.load("digits"), few))
    others = torch.arange(10) != tool.RARE
    assert torch.equal(before[others], after[others])
    assert after[tool.RARE] == round(0.1 * before[tool.RARE].item())


def test_each_remedy_gives_the_rare_class_the_weight_of_a_common_one(few, lessons):
    assert set(lessons) == REMEDIES
    for name, lesson in lessons.items():
        weight = lesson.drawn * lesson.weights[lesson.labels]
        by_class = torch.zeros(10).index_add_(0, lesson.labels, weight)
        ratio = by_class[tool.RARE] / (by_class.sum() - by_class[tool.RARE]) * 9
        # Drawn images come in whole numbers, of which a class has about 150 here.
        assert (ratio < 0.15) if name == "raw" else abs(ratio - 1) < 0.01, name


def test_no_remedy_sees_a_real_eight_that_was_cut(few, lessons):
    real = few.images.flatten(1)
    for name, lesson in lessons.items():
        assert torch.equal(lesson.images[: len(real)], real) and torch.equal(lesson.labels[: len(real)], few.labels)
        assert (len(lesson.images) > len(real)) == name.startswith("cvae")
        assert (lesson.labels[len(real) :] == tool.RARE).all()


def test_a_row_that_is_never_drawn_teaches_nothing():
    images = torch.eye(2).repeat(50, 1)
    labels = torch.tensor([0, 1]).repeat(50)
    spoilt = labels.clone()
    spoilt[::4] = 1
    drawn = (labels == spoilt).float()
    settings = {"hidden_dims": [], "steps": 200, "batch_size": 16, "learning_rate": 0.1}
    classifier = tool.learn(tool.Lesson(images, spoilt, drawn, torch.ones(10)), settings, seed=0)
    confidence = classifier(torch.eye(2)).softmax(1)[0, 0]
    # With the spoilt half of its images the first class would be told apart with a probability of one half.
    assert confidence > 0.95


def test_scores_are_those_of_a_table_counted_by_hand():
    # Eights called 8, 8, 3; threes called 3, 8, 8: recall 2/3, precision 2/4, accuracy 3/6. The three largest leads of
    # the eight are 5 (an eight), 4 (a three) and 3 (an eight).
    leads, labels = torch.tensor([5.0, 3.0, -1.0, -2.0, 4.0, 1.0]), torch.tensor([8, 8, 8, 3, 3, 3])
    logits = torch.full((6, 10), -9.0)
    logits[:, 3], logits[:, 8] = 1.0, leads + 1
    found = tool.scores(lambda images: logits, data.ImageData("six", torch.zeros(6, 2, 2), labels))
    assert found == {"recall": 2 / 3, "precision": 1 / 2, "break_even": 2 / 3, "accuracy": 1 / 2}


def test_drawings_are_counted_under_the_digit_that_the_judge_names():
    def judge(images):
        """Takes the first 300 of the thousand for a three, the others for an eight."""
        return torch.eye(10)[torch.tensor([3] * 300 + [8] * 700)]

    shares = tool.judged(CVAE(64, 10, (8,), 2), judge, seed=0)
    assert shares == [0, 0, 0, 0.3, 0, 0, 0, 0, 0.7, 0]


def test_a_small_trial_runs_and_is_the_same_twice():
    train, test = data.load("digits"), data.load("digits", "test")
    first, second = (tool.trial(train, test, 0.1, TINY, seed=3)[0] for _ in range(2))
    assert set(first) == REMEDIES and first == second
    # Sixty steps are enough to be far better than one class in ten.
    assert min(scores["accuracy"] for scores in first.values()) > 0.4
