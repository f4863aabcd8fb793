"""Fine-tuning: trains the upper blocks of a base network on labelled photos, which gives a new base network and a head.

The part below stays as it is, so it runs once per photo and its outputs are kept on disk while they are needed: an
epoch costs the upper blocks alone. What is judged and kept is the moving average of the weights: single epochs go up
and down by more than a validation part of a hundred photos can tell apart. After each epoch a checkpoint is written,
from which a run that was killed goes on:

    <folder>/checkpoint.pth   after the last whole epoch; removed when the training is done
             network.pth      the weights of the new base network
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as nnf
from torch.optim.swa_utils import AveragedModel

from recsys.errors import ConfigurationError, InputError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.head import Head
from recsys.images.settings import ImageSettings, TaggerSettings
from recsys.images.tagging.decoding import PhotoError, decode
from recsys.images.tagging.files import PhotoFiles
from recsys.images.tagging.networks import load_network
from recsys.images.tagging.taggers import Preprocessing, TaggerFiles, tagger_files
from recsys.images.tagging.tagging import READING_THREADS, Worker, read_unchanged
from recsys.settings import StepSettings, digest
from recsys.storage.local import put_in_place, reserve, scratch_folder

CPU = Worker()
SCALE = 16.0
"""Length of embeddings before the last layer while it is learnt; part of the head's weights afterwards."""
AVERAGE_DECAY = 0.97
"""Weight of the average so far at each step: about the last 33 steps, 1,000 photos, count."""
NETWORK, CHECKPOINT = "network.pth", "checkpoint.pth"
_TEMPERATURES = np.geomspace(0.25, 4, 33)
_BATCH = 64
"""Photos per batch where nothing is learnt."""
_MAX_BYTES = 400_000
"""Bytes on disk per photo up to which outputs of the frozen part are kept; a decoded photo has 150,528."""


class FineTuningSettings(StepSettings):
    """How a base network is fine-tuned."""

    freeze: str = Field("stem", pattern=r"^(stem|blocks:\d{1,3})$")
    """What stays as it is: the stem, or blocks:N, the stem and the first N blocks; see docs/tagger.md."""
    epochs: int = Field(20, ge=1, le=1000)
    """Maximum number of epochs; most trainings are done earlier."""
    warm_up: int = Field(3, ge=0)
    """Number of epochs at the start that are not judged: the last layer is new, and where validation photos are few,
    one of them would often look best by chance."""
    batch: int = Field(32, ge=2)
    """Photos per step."""
    rate: float = Field(3e-4, gt=0, lt=1)
    """Learning rate of the blocks at the start."""
    last_layer_factor: float = Field(10.0, gt=0)
    """Factor by which the learning rate of the last layer, which starts from zero, is higher."""
    seed: int = Field(0, ge=0)
    """Random seed of the order of photos and of their mirroring."""


@dataclass(frozen=True)
class Epoch:
    """What the validation part said after an epoch, or of the given head; the loss decides, as the accuracy of few
    photos is mostly chance."""

    loss: (
        float  # mean cross-entropy at the best temperature: overconfidence can be corrected, and is not held against it
    )
    accuracy: float  # top-1 of kind single; share of right answers of kind multi
    temperature: float  # by which logits are divided for that loss


@dataclass(frozen=True)
class FineTuned:
    """The result of fine-tuning; where it is not better than the given head on validation, that head and its base."""

    base: TaggerSettings
    head: Head  # its temperature is fitted on the validation part; of kind multi it has no thresholds yet
    dataset: Dataset  # with the embeddings of `base`, without photos that could not be read
    is_better: bool
    of_head: Epoch
    epochs: list[Epoch]
    rejected: list[tuple[str, str, str]] = field(default_factory=list)  # uri, reason, detail

    @property
    def weights(self) -> Path | None:
        """The file of the trained weights; None if they are not better than the head."""
        return Path(self.base.weights) if self.is_better and self.base.weights else None


@dataclass
class Schedule:
    """When the learning rate falls, and when training is done, by the validation loss after each judged epoch."""

    last: float = float("inf")
    has_fallen: bool = False  # after the last epoch

    def after_epoch(self, loss: float) -> Literal["go on", "lower", "stop"]:
        """Lower the rate where validation got worse; stop where it has just fallen and that did not help."""
        is_better, had_fallen = loss < self.last, self.has_fallen
        self.last, self.has_fallen = loss, not is_better
        return "go on" if is_better else "stop" if had_fallen else "lower"


def fine_tune(
    dataset: Dataset,
    images: ImageSettings,
    base: TaggerSettings,
    head: Head,
    settings: FineTuningSettings,
    folder: Path,
    worker: Worker = CPU,
    report: Callable[[int, Epoch], None] = lambda _, __: None,
) -> FineTuned:
    """Train the blocks above a frozen part and a last layer; batch norms keep their statistics and scales.

    The last layer starts from zero rather than from the given head: from there the first epoch is worse than none, and
    the schedule would end the training. The best epoch by validation is kept. A GPU trains in mixed precision.

    Args:
        dataset: Photos of which train and validation parts are used to train; the test part only gets embeddings.
        images: Where the photos are, and limits of reading them.
        base: The network to start from.
        head: A head trained on the embeddings of `base` without the validation part, on which both are compared; its
            kind, labels and outputs are kept.
        settings: What is frozen, and how to train.
        folder: Where the weights and the checkpoint are written.
        worker: The device and threads.
        report: Called after each epoch with its number, from 1, and its validation.

    Raises:
        ConfigurationError: If `freeze` is not possible with the network.
        InputError: If no photo of the train or validation part can be read.
    """
    torch.set_num_threads(worker.threads)
    files = tagger_files(base)
    network = load_network(files.architecture, len(files.labels), files.weights).eval().to(worker.device)
    stages = network.stages()  # type: ignore[operator]
    n_frozen = n_frozen_stages(settings.freeze, files.architecture, stages)
    with scratch_folder(folder) as scratch:
        frozen = _FrozenPart(stages[:n_frozen], files.preprocessing, worker.device)
        readable, rejected = frozen.prepare(dataset, images, scratch / "photos.npy", worker.threads)
        dataset = dataset.where(readable)
        for part in ("train", "validation"):
            if not (dataset.parts == part).any():
                example = f", such as {rejected[0][0]}: {rejected[0][2]}" if rejected else ""
                raise InputError(f"0 photos of the part {part} can be read, must be at least 1{example}: label others")
        training = _Training(dataset, frozen, stages[n_frozen:], head, settings, worker.device)
        training.run(folder / CHECKPOINT, _key(dataset, files, settings, head), report)
        of_head = training.validate_head()
        if training.best.loss >= of_head.loss:
            (folder / CHECKPOINT).unlink()
            return FineTuned(base, head, dataset, False, of_head, training.epochs, rejected)
        training.take_best()
        _save({name: each.cpu() for name, each in network.state_dict().items()}, folder / NETWORK)
        tuned = replace(dataset, embeddings=training.embeddings())
    new_base = base.model_copy(update={"weights": str(folder / NETWORK), "sha256": None})
    (folder / CHECKPOINT).unlink()
    return FineTuned(new_base, training.head(), tuned, True, of_head, training.epochs, rejected)


def n_frozen_stages(freeze: str, architecture: str, stages: list[nn.Module]) -> int:
    """Return how many stages are frozen of those of a network: its stem, its blocks, and the layers after them.

    Raises:
        ConfigurationError: If the network has fewer blocks, or nothing would be left to train.
    """
    n_blocks = 0 if freeze == "stem" else int(freeze.removeprefix("blocks:"))
    is_last_trainable = next(stages[-1].parameters(), None) is not None
    most = len(stages) - 2 if is_last_trainable else len(stages) - 3
    if n_blocks > most:
        raise ConfigurationError(
            f"freeze == '{freeze}', must be stem or blocks:N with N in 0..{most}: {architecture} has "
            f"{len(stages) - 2} blocks, and something must be left to train"
        )
    return 1 + n_blocks


def _key(dataset: Dataset, files: TaggerFiles, settings: FineTuningSettings, head: Head) -> str:
    arrays = [dataset.targets.tobytes().hex(), dataset.image_hashes.tolist(), dataset.parts.tolist()]
    return digest([arrays, files.version, settings, len(head.biases[-1]), head.kind])


class _FrozenPart:
    """The stages that stay as they are, and their outputs for each photo and its mirror image, kept on disk in half
    precision; where these are larger than the photos, the photos are kept and the stages run at every step."""

    def __init__(self, stages: list[nn.Module], preprocessing: Preprocessing, device: str):
        self._network = nn.Sequential(*stages).requires_grad_(False)
        self._preprocessing = preprocessing
        self._device = device
        self._mean, self._std = (
            (255 * torch.tensor(values)).view(1, 3, 1, 1).to(device)
            for values in (preprocessing.mean, preprocessing.std)
        )
        self._kept: NDArray[Any] = np.empty(0)
        self._keeps_photos = False

    def prepare(
        self, dataset: Dataset, images: ImageSettings, path: Path, threads: int
    ) -> tuple[NDArray[np.bool_], list[tuple[str, str, str]]]:
        """Read all photos; return a mask of those that can be read, shape (n_photos,), and why the others cannot."""
        crop = self._preprocessing.crop
        one = self._run(torch.zeros(1, crop, crop, 3, dtype=torch.uint8, device=self._device))
        self._keeps_photos = 2 * one.nelement() * np.dtype(np.float16).itemsize > _MAX_BYTES
        shape = (crop, crop, 3) if self._keeps_photos else (2, *one.shape[1:])
        kept = open_memmap(path, "w+", np.uint8 if self._keeps_photos else np.float16, (len(dataset), *shape))
        reserve(path, path.stat().st_size)
        readable, rejected, row = np.zeros(len(dataset), bool), [], 0
        for start, batch in _decoded(dataset, images, self._preprocessing, threads):
            rejected += [
                (str(dataset.image_uris[start + n]), each.reason, each.detail)
                for n, each in enumerate(batch)
                if isinstance(each, PhotoError)
            ]
            readable[start : start + len(batch)] = [not isinstance(each, PhotoError) for each in batch]
            pixels = [each for each in batch if not isinstance(each, PhotoError)]
            if pixels:
                kept[row : row + len(pixels)] = self._to_keep(np.stack(pixels))
            row += len(pixels)
        self._kept = kept
        return readable, rejected

    @torch.inference_mode()
    def _to_keep(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        if self._keeps_photos:
            return pixels
        photos = torch.from_numpy(pixels).to(self._device)
        return torch.stack([self._run(photos), self._run(photos.flip(2))], 1).half().cpu().numpy()

    @torch.no_grad()
    def outputs(self, rows: NDArray[np.int64], is_mirrored: NDArray[np.bool_]) -> Tensor:
        """Return the outputs of photos or, where said, of their mirror images, in float32."""
        if not self._keeps_photos:
            return torch.from_numpy(self._kept[rows, is_mirrored.astype(int)]).to(self._device).float()
        photos = torch.from_numpy(self._kept[rows]).to(self._device)
        mirrored = torch.from_numpy(is_mirrored).to(self._device).view(-1, 1, 1, 1)
        return self._run(torch.where(mirrored, photos.flip(2), photos))

    @torch.no_grad()
    def _run(self, photos: Tensor) -> Tensor:
        inputs = photos.permute(0, 3, 1, 2)
        if self._preprocessing.channels == "BGR":
            inputs = inputs.flip(1)
        inputs = ((inputs - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with _mixed_precision(self._device):
            return self._network(inputs).float()


class _Upper(nn.Module):
    """The stages that are trained, with a last layer that starts from zero."""

    def __init__(self, stages: list[nn.Module], n_features: int, n_outputs: int):
        super().__init__()
        self.stages = nn.Sequential(*stages).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.last = nn.Linear(n_features, n_outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        for layer in self.stages.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.requires_grad_(False)
        self.eval()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        with _mixed_precision(inputs.device.type):
            embeddings = self.stages(inputs).float()
        return self.last(SCALE * nnf.normalize(embeddings, dim=1)), embeddings


@torch.no_grad()
def _follow(averages: Sequence[Tensor], current: Sequence[Tensor], n_averaged: Tensor | int) -> None:
    """Move averages towards the current weights: quickly in the first steps, which are far from the result."""
    decay = min(AVERAGE_DECAY, (1 + int(n_averaged)) / (10 + int(n_averaged)))
    for average, value in zip(averages, current, strict=True):
        average.lerp_(value, 1 - decay)


class _Training:
    """The stages that are trained, their last layer, and the state of the training."""

    def __init__(
        self,
        dataset: Dataset,
        frozen: _FrozenPart,
        stages: list[nn.Module],
        head: Head,
        settings: FineTuningSettings,
        device: str,
    ):
        self.best = Epoch(float("inf"), 0.0, 1.0)
        self.epochs: list[Epoch] = []
        self._dataset, self._frozen, self._given_head = dataset, frozen, head
        self._settings, self._device = settings, device
        self._learnt = _Upper(stages, dataset.embeddings.shape[1], len(head.biases[-1])).to(device)
        self._average = AveragedModel(self._learnt, multi_avg_fn=_follow)
        if head.kind == "single":
            self._targets = torch.from_numpy(dataset.classes).to(device)
        else:
            self._targets = torch.from_numpy(dataset.targets).float().to(device)
        self._rows = {part: np.flatnonzero(dataset.parts == part) for part in ("train", "validation")}
        self._schedule = Schedule()
        rates = settings.rate, settings.rate * settings.last_layer_factor
        learnt = self._learnt.stages.parameters(), self._learnt.last.parameters()
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [each for each in parameters if each.requires_grad], "lr": rate}
                for parameters, rate in zip(learnt, rates, strict=True)
            ]
        )
        self._scaler = torch.amp.GradScaler(enabled=device.startswith("cuda"))
        self._best_weights: dict[str, Tensor] = {}

    def run(self, checkpoint: Path, key: str, report: Callable[[int, Epoch], None]) -> None:
        """Train until validation is no better, going on from a checkpoint of the same key."""
        is_done = self._resume(checkpoint, key)
        while not is_done and len(self.epochs) < self._settings.epochs:
            self._train_epoch(len(self.epochs))
            epoch = self._judge(self._outputs_of(self._rows["validation"])[0])
            self.epochs.append(epoch)
            if len(self.epochs) > min(self._settings.warm_up, self._settings.epochs - 1):
                is_done = self._is_done_after(epoch)
            self._write_checkpoint(checkpoint, key, is_done)
            report(len(self.epochs), epoch)

    def _is_done_after(self, epoch: Epoch) -> bool:
        """Keep the weights of an epoch if they are the best, and lower the rate where the schedule says so."""
        if epoch.loss < self.best.loss:
            self.best, self._best_weights = epoch, copy.deepcopy(self._average.module.state_dict())
        decision = self._schedule.after_epoch(epoch.loss)
        if decision == "lower":
            for group in self._optimizer.param_groups:
                group["lr"] /= 10
        return decision == "stop"

    def validate_head(self) -> Epoch:
        """Judge the given head on the validation part."""
        embeddings = self._dataset.embeddings[self._rows["validation"]]
        return self._judge(torch.from_numpy(self._given_head.logits(embeddings)).to(self._device))

    def take_best(self) -> None:
        """Set the network to the weights of the best epoch."""
        self._average.module.load_state_dict(self._best_weights)
        self._learnt.load_state_dict(self._best_weights)

    def embeddings(self) -> NDArray[np.float32]:
        """Return the embeddings of all photos, shape (n_photos, n_features)."""
        return self._outputs_of(np.arange(len(self._dataset)))[1].cpu().numpy()

    def head(self) -> Head:
        """Return the last layer as a head on embeddings of length 1."""
        last = self._learnt.last.requires_grad_(False).cpu()
        weight = (SCALE * last.weight.T).contiguous().numpy()
        arrays = [weight], [last.bias.numpy()]
        return Head(self._given_head.kind, self._given_head.labels, *arrays, self.best.temperature)

    def _train_epoch(self, number: int) -> None:
        rng = np.random.default_rng([self._settings.seed, number])  # so that an epoch after a checkpoint is the same
        rows = rng.permutation(self._rows["train"])
        is_mirrored = rng.random(len(rows)) < 0.5
        for start in range(0, len(rows), self._settings.batch):
            step = slice(start, start + self._settings.batch)
            inputs = self._frozen.outputs(rows[step], is_mirrored[step])
            loss = self._loss(self._learnt(inputs)[0], self._targets[rows[step]])
            self._optimizer.zero_grad()
            self._scaler.scale(loss).backward()
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._average.update_parameters(self._learnt)

    @torch.no_grad()
    def _outputs_of(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return logits and embeddings of photos by the averaged weights."""
        batches = [self._average(self._frozen.outputs(some, np.zeros(len(some), bool))) for some in _batches(rows)]
        logits, embeddings = zip(*batches, strict=True)
        return torch.cat(logits), torch.cat(embeddings)

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        single = self._given_head.kind == "single"
        return nnf.cross_entropy(logits, targets) if single else nnf.binary_cross_entropy_with_logits(logits, targets)

    def _judge(self, logits: Tensor) -> Epoch:
        targets = self._targets[self._rows["validation"]]
        said = logits.argmax(1) if self._given_head.kind == "single" else (logits > 0).float()
        losses = [float(self._loss(logits / temperature, targets)) for temperature in _TEMPERATURES]
        accuracy = float((said == targets).float().mean())
        return Epoch(min(losses), accuracy, float(_TEMPERATURES[int(np.argmin(losses))]))

    def _write_checkpoint(self, path: Path, key: str, is_done: bool) -> None:
        content = {
            "key": key,
            "is_done": is_done,
            "weights": self._learnt.state_dict(),
            "average": self._average.state_dict(),
            "best_weights": self._best_weights,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "schedule": asdict(self._schedule),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best": asdict(self.best),
        }
        _save(content, path)

    def _resume(self, path: Path, key: str) -> bool:
        """Return to the state of a checkpoint, and whether its training was done; one that does not fit is ignored."""
        try:
            content = torch.load(path, map_location=self._device, weights_only=True)
            if content["key"] != key:
                return False
        except Exception:  # absent, damaged or of another program: the training starts from the beginning
            return False
        self._learnt.load_state_dict(content["weights"])
        self._average.load_state_dict(content["average"])
        self._optimizer.load_state_dict(content["optimizer"])
        self._scaler.load_state_dict(content["scaler"])
        self._schedule = Schedule(**content["schedule"])
        self.epochs = [Epoch(**values) for values in content["epochs"]]
        self.best, self._best_weights = Epoch(**content["best"]), content["best_weights"]
        return bool(content["is_done"])


def _decoded(
    dataset: Dataset, images: ImageSettings, preprocessing: Preprocessing, threads: int
) -> Iterator[tuple[int, list[NDArray[np.uint8] | PhotoError]]]:
    """Read and decode photos in order; yield the position of a batch and its pixels, or why they cannot be had."""
    files = PhotoFiles.of(images)

    def pixels(uri: str, image_hash: str) -> NDArray[np.uint8] | PhotoError:
        try:
            data = read_unchanged(files, files.absolute(uri), image_hash)
            return decode(data, preprocessing.resize, preprocessing.crop, images.tagging.max_megapixels)
        except PhotoError as error:
            return error

    with ThreadPoolExecutor(min(READING_THREADS, 2 * threads)) as pool:
        for rows in _batches(np.arange(len(dataset))):
            photos = dataset.image_uris[rows].tolist(), dataset.image_hashes[rows].tolist()
            yield int(rows[0]), list(pool.map(pixels, *photos))


def _save(content: dict[str, Any], path: Path) -> None:
    """Write a file atomically; a full disk is an OSError, which it is not if torch opens the file."""
    with scratch_folder(path.parent) as scratch:
        with (scratch / path.name).open("wb") as file:
            torch.save(content, file)
        put_in_place(scratch / path.name, path)


def _batches(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))


@contextmanager
def _mixed_precision(device: str) -> Iterator[None]:
    with torch.autocast(device.split(":")[0], torch.float16, enabled=device.startswith("cuda")):
        yield
