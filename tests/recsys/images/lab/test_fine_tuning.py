"""Fine-tuning of small networks of random weights on photos of one colour."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from recsys.errors import ConfigurationError, InputError
from recsys.images.lab import fine_tuning
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.fine_tuning import (
    CHECKPOINT,
    NETWORK,
    Epoch,
    FineTuned,
    FineTuningSettings,
    Schedule,
    fine_tune,
    n_frozen_stages,
)
from recsys.images.lab.head import Head
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.files import content_hash
from recsys.images.tagging.inference import load_tagger
from recsys.images.tagging.networks import ARCHITECTURES, load_network
from recsys.images.tagging.taggers import tagger_files
from tests.helpers.small_photos import own_tagger, write_photo

LABELS = ["red", "blue"]
KNOWS_NOTHING = Head("single", LABELS, [np.zeros((512, 2), np.float32)], [np.zeros(2, np.float32)])
IS_WRONG = replace(KNOWS_NOTHING, biases=[np.array([9, -9], np.float32)])  # loss 9
SETTINGS = FineTuningSettings(freeze="blocks:6", epochs=3, warm_up=0, batch=4, rate=1e-3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TaggerSettings:
    return own_tagger(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Dataset:
    """6 reddish and 6 bluish photos, 4 of each to train and 2 to validate."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    uris, hashes = [], []
    for number in range(12):
        strong, weak, other = (int(each) for each in rng.integers((150, 0, 60), (255, 60, 120)))
        colour = (strong, other, weak) if number % 2 == 0 else (weak, other, strong)
        uris.append(write_photo(folder / f"{number}.bmp", colour))
        hashes.append(content_hash(Path(uris[-1]).read_bytes()))
    parts = np.array(["train"] * 8 + ["validation"] * 4)
    targets = np.array([[True, False], [False, True]] * 6)
    embeddings = np.zeros((12, 512), np.float32)
    return Dataset(LABELS, "single", np.array(hashes), np.array(uris), embeddings, targets, np.arange(12), parts)


def tune(
    dataset: Dataset,
    base: TaggerSettings,
    folder: Path,
    settings: FineTuningSettings = SETTINGS,
    head: Head = KNOWS_NOTHING,
    report: Callable[[int, Epoch], None] = lambda _, __: None,
) -> FineTuned:
    return fine_tune(dataset, ImageSettings(root="/"), base, head, settings, folder, report=report)


@pytest.fixture(scope="module")
def tuned(photos, base, tmp_path_factory) -> FineTuned:
    return tune(photos, base, tmp_path_factory.mktemp("tuned"))


def frozen_part(base: TaggerSettings) -> fine_tuning._FrozenPart:
    """Return the stem of a network."""
    files = tagger_files(base)
    network = load_network(files.architecture, len(files.labels), files.weights).eval()
    return fine_tuning._FrozenPart(network.stages()[:1], files.preprocessing, "cpu")


def training_of(dataset: Dataset, base: TaggerSettings) -> fine_tuning._Training:
    """Return a training that has not begun."""
    files = tagger_files(base)
    stages = load_network(files.architecture, len(files.labels), files.weights).eval().stages()[7:]
    return fine_tuning._Training(dataset, frozen_part(base), stages, KNOWS_NOTHING, SETTINGS, "cpu")


def weights(path: str | Path | None) -> dict[str, torch.Tensor]:
    assert path is not None
    return torch.load(path, weights_only=True)


# The schedule.


@pytest.mark.parametrize(
    ("losses", "decisions"),
    [
        ([1.0, 0.8, 0.9, 0.91], ["go on", "go on", "lower", "stop"]),
        ([1.0, 0.8, 0.9, 0.85, 0.86, 0.7], ["go on", "go on", "lower", "go on", "lower", "go on"]),
        ([1.0, 1.0, 1.0], ["go on", "lower", "stop"]),  # equal is no better
    ],
)
def test_rate_falls_where_validation_got_worse_and_training_ends_where_that_did_not_help(losses, decisions):
    schedule = Schedule()
    assert [schedule.after_epoch(loss) for loss in losses] == decisions


# What is learnt.


def test_frozen_part_and_former_last_layer_are_unchanged(tuned, base):
    before, after = weights(base.weights), weights(tuned.base.weights)
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"fire8", "fire9"}  # blocks 6 and 7


def test_batch_norms_keep_scales_and_statistics(photos, tmp_path):
    torch.manual_seed(0)
    before = ARCHITECTURES["resnet18"](10).state_dict()
    torch.save(before, tmp_path / "resnet18.pth")
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{number}\n" for number in range(10)))
    base = TaggerSettings(
        name="own", architecture="resnet18", weights=str(tmp_path / "resnet18.pth"), labels=str(labels)
    )
    settings = FineTuningSettings(freeze="blocks:7", epochs=1, warm_up=0, batch=4, rate=1e-3)
    after = weights(tune(photos, base, tmp_path / "out", settings, IS_WRONG).base.weights)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"layer4.1.conv1.weight", "layer4.1.conv2.weight"}


def test_new_base_gives_the_embeddings_that_the_head_was_learnt_on_under_a_version_of_its_own(tuned, base):
    assert tuned.is_better
    assert tagger_files(tuned.base).version != tagger_files(base).version
    tagger = load_tagger(tuned.base)
    crop = tagger.preprocessing.crop
    red, blue = np.full((crop, crop, 3), (230, 90, 20), np.uint8), np.full((crop, crop, 3), (20, 90, 230), np.uint8)
    probabilities = tuned.head.probabilities(tagger.tag(np.stack([red, blue])).embeddings)
    assert probabilities.argmax(1).tolist() == [0, 1]
    assert tuned.head.probabilities(tuned.dataset.embeddings).argmax(1).tolist() == tuned.dataset.classes.tolist()


def test_head_gives_the_validation_loss_of_the_best_epoch(tuned):
    validation = tuned.dataset.part("validation")
    probabilities = tuned.head.probabilities(validation.embeddings)
    loss = -np.log(probabilities[np.arange(len(validation)), validation.classes]).mean()
    assert loss == pytest.approx(min(each.loss for each in tuned.epochs), rel=1e-2)


def test_embeddings_of_the_dataset_are_those_of_the_ordinary_tagger(tuned, photos):
    from recsys.images.tagging.decoding import decode

    pixels = np.stack([decode(Path(uri).read_bytes(), 256, 224) for uri in photos.image_uris[:3].tolist()])
    expected = load_tagger(tuned.base).tag(pixels).embeddings
    np.testing.assert_allclose(tuned.dataset.embeddings[:3], expected, rtol=0.02, atol=0.002)  # of half precision


def test_result_that_is_worse_than_the_given_head_is_not_taken(tuned, base, tmp_path):
    knows_all = replace(
        tuned.head,
        weights=[100 * each for each in tuned.head.weights],
        biases=[100 * each for each in tuned.head.biases],
    )
    again = tune(tuned.dataset, base, tmp_path, SETTINGS.model_copy(update={"epochs": 1}), knows_all)
    assert (again.is_better, again.base, again.head) == (False, base, knows_all)
    assert again.of_head.accuracy == 1
    assert not (tmp_path / NETWORK).exists()


def test_photos_are_learnt_the_same_whether_they_or_outputs_of_the_frozen_part_are_kept(
    tuned, photos, base, tmp_path, monkeypatch
):
    monkeypatch.setattr(fine_tuning, "_MAX_BYTES", 0)
    other = tune(photos, base, tmp_path)
    np.testing.assert_allclose([each.loss for each in other.epochs], [each.loss for each in tuned.epochs], rtol=0.02)


def test_photos_of_several_labels_are_learnt(photos, base, tmp_path):
    head = replace(KNOWS_NOTHING, kind="multi")
    result = tune(replace(photos, kind="multi"), base, tmp_path, head=head)
    assert (result.head.kind, result.epochs[-1].loss < result.epochs[0].loss) == ("multi", True)


@pytest.mark.parametrize("keeps_photos", [True, False])
def test_mirrored_photos_have_left_and_right_exchanged(base, tmp_path, monkeypatch, keeps_photos):
    monkeypatch.setattr(fine_tuning, "_MAX_BYTES", 0 if keeps_photos else 10**9)
    half = Image.new("RGB", (224, 224), "red")
    half.paste("blue", (0, 0, 224, 80))  # above, and at the left
    half.paste("blue", (0, 0, 60, 224))
    half.save(tmp_path / "0.bmp")
    ImageOps.mirror(half).save(tmp_path / "1.bmp")
    uris = np.array([str(tmp_path / f"{n}.bmp") for n in range(2)])
    hashes = np.array([content_hash(Path(uri).read_bytes()) for uri in uris])
    both = Dataset(
        LABELS, "single", hashes, uris, np.zeros((2, 1), np.float32), np.eye(2, dtype=bool), np.arange(2), uris
    )
    frozen = frozen_part(base)
    frozen.prepare(both, ImageSettings(root="/"), tmp_path / "photos.npy", 1)
    mirrored, other = frozen.outputs(np.array([0, 1]), np.array([True, False]))
    torch.testing.assert_close(mirrored, other, rtol=0.01, atol=0.01)
    assert not torch.allclose(mirrored, frozen.outputs(np.array([0]), np.array([False]))[0], atol=0.1)


# Kills, damaged files, photos that cannot be read.


class Killed(BaseException):
    pass


def kill_after(last: int) -> Callable[[int, Epoch], None]:
    def report(number: int, _: Epoch) -> None:
        if number == last:
            raise Killed

    return report


def test_killed_training_goes_on_after_its_last_epoch(tuned, photos, base, tmp_path):
    with pytest.raises(Killed):
        tune(photos, base, tmp_path, report=kill_after(1))
    seen: list[int] = []
    resumed = tune(photos, base, tmp_path, report=lambda number, _: seen.append(number))
    assert seen == [2, 3]
    assert [each.loss for each in resumed.epochs] == pytest.approx([each.loss for each in tuned.epochs], rel=1e-3)
    name = "fire9.squeeze.weight"
    torch.testing.assert_close(
        weights(resumed.base.weights)[name], weights(tuned.base.weights)[name], rtol=0, atol=1e-5
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [NETWORK]


def test_an_optimizer_goes_on_from_the_moments_of_its_checkpoint(base, photos, tmp_path):
    with pytest.raises(Killed):
        tune(photos, base, tmp_path, report=kill_after(1))
    saved = weights(tmp_path / CHECKPOINT)["optimizer"]["state"]
    resumed = training_of(photos, base)
    resumed._resume(tmp_path / CHECKPOINT, weights(tmp_path / CHECKPOINT)["key"])
    found = resumed._optimizer.state_dict()["state"]
    assert found.keys() == saved.keys() != set()
    assert all(torch.equal(found[each]["exp_avg"], saved[each]["exp_avg"]) for each in saved)


def test_epochs_of_the_warm_up_are_neither_judged_nor_taken(photos, base, tmp_path):
    with pytest.raises(Killed):
        tune(photos, base, tmp_path, SETTINGS.model_copy(update={"warm_up": 2}), report=kill_after(2))
    content = weights(tmp_path / CHECKPOINT)
    assert (content["schedule"], content["best_weights"]) == (asdict(Schedule()), {})


@pytest.mark.parametrize("kind", ["damaged", "of other labels"])
def test_checkpoint_that_does_not_fit_is_ignored(photos, base, tmp_path, kind):
    other = replace(photos, targets=photos.targets[:, ::-1])
    with pytest.raises(Killed):
        tune(other if kind == "of other labels" else photos, base, tmp_path, report=kill_after(1))
    if kind == "damaged":
        content = (tmp_path / CHECKPOINT).read_bytes()
        (tmp_path / CHECKPOINT).write_bytes(content[: len(content) // 2])
    seen: list[int] = []
    with pytest.raises(Killed):
        tune(photos, base, tmp_path, report=lambda number, _: (seen.append(number), kill_after(1)(number, _))[0])
    assert seen == [1]


def test_photos_that_cannot_be_read_or_have_changed_are_set_aside_with_the_reason(photos, base, tmp_path):
    uris, hashes = photos.image_uris.astype(object), photos.image_hashes.copy()
    uris[1], hashes[3] = str(tmp_path / "gone.bmp"), "0" * 32
    changed = replace(photos, image_uris=uris.astype(str), image_hashes=hashes)
    result = tune(changed, base, tmp_path / "out", SETTINGS.model_copy(update={"epochs": 1}))
    assert [(uri, reason) for uri, reason, _ in result.rejected] == [
        (str(tmp_path / "gone.bmp"), "missing"),
        (photos.image_uris[3], "missing"),
    ]
    assert len(result.dataset) == len(result.dataset.embeddings) == 10
    assert result.dataset.image_uris.tolist() == [uri for n, uri in enumerate(uris) if n not in (1, 3)]


def test_no_readable_photo_is_an_error_that_gives_a_reason(photos, base, tmp_path):
    gone = replace(photos, image_uris=np.char.add(photos.image_uris, ".gone"))
    with pytest.raises(InputError, match=r"0 photos of the part train can be read.*0\.bmp\.gone"):
        tune(gone, base, tmp_path)


# What can be frozen.


def stages_of(architecture: str) -> list[nn.Module]:
    with torch.device("meta"):
        return ARCHITECTURES[architecture](10).stages()


@pytest.mark.parametrize(("freeze", "n_stages"), [("stem", 1), ("blocks:0", 1), ("blocks:3", 4), ("blocks:7", 8)])
def test_stem_and_the_first_blocks_are_frozen(freeze, n_stages):
    assert n_frozen_stages(freeze, "squeezenet", stages_of("squeezenet")) == n_stages


@pytest.mark.parametrize(("architecture", "most"), [("squeezenet", 7), ("efficientnet_lite0", 16), ("vgg16", 4)])
def test_something_must_be_left_to_train(architecture, most):
    stages = stages_of(architecture)
    assert n_frozen_stages(f"blocks:{most}", architecture, stages) == most + 1
    with pytest.raises(ConfigurationError, match=rf"freeze == 'blocks:{most + 1}', must be .* N in 0\.\.{most}: "):
        n_frozen_stages(f"blocks:{most + 1}", architecture, stages)
