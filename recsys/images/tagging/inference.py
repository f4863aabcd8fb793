"""A tagger on a device: photos in, tags and embeddings out."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.images.settings import TaggerSettings
from recsys.images.tagging.networks import fold_batch_norms, load_network
from recsys.images.tagging.taggers import Preprocessing, tagger_files

Submitted = tuple[Tensor, Tensor, Tensor]
"""Labels, probabilities and embeddings, perhaps still being computed."""


@dataclass(frozen=True)
class Tags:
    """What some photos show."""

    labels: NDArray[np.int64]  # (n_photos, n_tags), positions in the tagger's labels, most probable first
    probabilities: NDArray[np.float32]  # (n_photos, n_tags)
    embeddings: NDArray[np.float32]  # (n_photos, n_features), what the last layer sees


class Tagger:
    """A network on a device, ready to tag; it takes the network over."""

    def __init__(self, network: nn.Module, labels: list[str], preprocessing: Preprocessing, device: str = "cpu"):
        self.labels = labels
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        if self.device.type == "cpu":
            fold_batch_norms(self.network)
        # Channels last is what convolutions are fastest with, on both kinds of device.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean, self._std = (
            (255 * torch.tensor(values)).view(1, 3, 1, 1).to(self.device)
            for values in (preprocessing.mean, preprocessing.std)
        )

    def tag(self, photos: NDArray[np.uint8], n_tags: int = 5) -> Tags:
        """Tag photos, shape (n_photos, crop, crop, 3), RGB; n_tags of them each."""
        return self.collect(self.submit(photos, n_tags))

    def submit(self, photos: NDArray[np.uint8], n_tags: int) -> Submitted:
        """Start tagging: on a GPU this returns before the work is done, so that the next photos are read meanwhile."""
        batch = torch.from_numpy(photos)
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return self.run(batch.to(self.device, non_blocking=True), n_tags)

    @torch.inference_mode()
    def run(self, photos: Tensor, n_tags: int) -> Submitted:
        """Start tagging photos that are on the device, shape (n_photos, crop, crop, 3), RGB, uint8."""
        on_gpu = self.device.type == "cuda"
        batch = photos.permute(0, 3, 1, 2)  # is channels last already
        if self.preprocessing.channels == "BGR":
            batch = batch.flip(1)
        inputs = ((batch - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.float16, enabled=on_gpu):
            logits, embeddings = self.network(inputs)
        probabilities, labels = logits.float().softmax(1).topk(min(n_tags, len(self.labels)))
        return labels, probabilities, embeddings.float()

    @staticmethod
    def collect(submitted: Submitted) -> Tags:
        """Wait for what was submitted."""
        return Tags(*(tensor.cpu().numpy() for tensor in submitted))


def load_tagger(settings: TaggerSettings, device: str = "cpu") -> Tagger:
    """Load a tagger by name.

    Raises:
        ConfigurationError: If there is no such tagger, or something that it needs is not given.
        ModelError: If its weights cannot be fetched, do not hash to what they must, or do not fit the network.
    """
    found = tagger_files(settings)
    network = load_network(found.architecture, len(found.labels), found.weights)
    return Tagger(network, found.labels, found.preprocessing, device)
