import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from cli.tables.taggers import print_trained
from jobs.lab.train_tagger import TrainedVersion
from recsys.console import TextConsole
from recsys.images.lab.evaluation import HeldOut, LearningCurve, compare, wilson
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.lab.trained_tagger import TrainedTagger
from recsys.images.lab.training import fit_linear
from recsys.images.settings import TaggerSettings
from recsys.metrics import Estimate
from tests.helpers.random_dataset import labelled_photos


def printed(**changes: object) -> str:
    photos = labelled_photos((60, 30, 10), spread=0.1)
    head = fit_linear(photos)
    labels = [{"id": label} for label in photos.labels]
    taxonomy = Taxonomy.model_validate({"schema_version": 1, "name": "rooms", "labels": labels})
    tagger = TrainedTagger(taxonomy, TaggerSettings(), "base-1", head, 0.0)
    trained = TrainedVersion(tagger, Path("taggers/rooms/1"), HeldOut.of(head, 0.0, photos), None, None, None, {})
    out = io.StringIO()
    print_trained(replace(trained, **changes), TextConsole(file=out, width=120))
    return out.getvalue()


def test_accuracies_labels_and_folder_are_printed():
    lines = [" ".join(line.split()) for line in printed().splitlines()]
    assert "top 1 100.0 % 96.3 … 100.0 %" in lines
    assert "label 2 10 100.0 % 100.0 % 100.0 %" in lines
    assert any("Filed without review: 100.0 %, 100.0 % of these right." in line for line in lines)
    assert lines[-1] == "Files in taggers/rooms/1."


def test_labels_that_were_left_out_are_named():
    assert "pool: not learnt, 3 photos to learn from, needs at least 5" in printed(left_out={"pool": 3})


def test_difference_to_the_version_before_is_printed():
    right = np.arange(100) < 90
    text = printed(comparison=compare(right, np.arange(100) < 80), previous="rooms-1")
    assert "Accuracy +10.0 points against rooms-1 on the same test photos" in text
    assert "10 only this one has right, 0 only that one; p = 0.002, unlikely to be chance." in " ".join(text.split())


def test_number_of_further_labels_is_printed_with_its_range():
    points = [(100, wilson(80, 100)), (800, wilson(86, 100))]
    text = printed(curve=LearningCurve(points, 0.9, Estimate(2411, 1820, np.inf)))
    assert "90 % needs some 1,600 more labels; with 80 % confidence 1,000 to any number, or never." in text
    assert "the target of 85 % is reached" in printed(curve=LearningCurve(points, 0.85, None))
    never = printed(curve=LearningCurve(points, 0.9, Estimate(np.inf, np.inf, np.inf)))
    assert "more labels alone will not reach it" in never
