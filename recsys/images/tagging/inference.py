"""A tagger on a CPU or GPU: returns tags and embeddings of photos."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recsys.images.settings import TaggerSettings
from recsys.images.tagging.networks import fold_batch_norms, load_network
from recsys.images.tagging.taggers import Preprocessing, tagger_files

Submitted = tuple[Tensor, Tensor, Tensor]
"""Labels, probabilities and embeddings, which a GPU may still be computing."""


@dataclass(frozen=True)
class Tags:
    """Most probable tags and embeddings of photos."""

    labels: NDArray[np.int64]  # (n_photos, n_tags), positions in the tagger's labels, most probable first
    probabilities: NDArray[np.float32]  # (n_photos, n_tags)
    embeddings: NDArray[np.float32]  # (n_photos, n_features), the input of the last layer


class Tagger:
    """A network on a device; it modifies the network that it is given."""

    def __init__(self, network: nn.Module, labels: list[str], preprocessing: Preprocessing, device: str = "cpu"):
        self.labels = labels
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        if self.device.type == "cpu":
            fold_batch_norms(self.network)
        # Convolutions are fastest in channels-last order, on CPUs and GPUs.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean, self._std = (
            (255 * torch.tensor(values)).view(1, 3, 1, 1).to(self.device)
            for values in (preprocessing.mean, preprocessing.std)
        )

    def tag(self, photos: NDArray[np.uint8], n_tags: int = 5) -> Tags:
        """Return the n_tags most probable tags of each photo; photos have shape (n_photos, crop, crop, 3), RGB."""
        return self.collect(self.submit(photos, n_tags))

    def submit(self, photos: NDArray[np.uint8], n_tags: int) -> Submitted:
        """Start tagging; on a GPU this returns before the work is done, so that the next photos are read meanwhile."""
        batch = torch.from_numpy(photos)
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        return self.run(batch.to(self.device, non_blocking=True), n_tags)

    @torch.inference_mode()
    def run(self, photos: Tensor, n_tags: int) -> Submitted:
        """Start tagging photos that are already on the device, shape (n_photos, crop, crop, 3), RGB, uint8."""
        on_gpu = self.device.type == "cuda"
        batch = photos.permute(0, 3, 1, 2)  # is already in channels-last order
        if self.preprocessing.channels == "BGR":
            batch = batch.flip(1)
        inputs = ((batch - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.float16, enabled=on_gpu):
            logits, embeddings = self.network(inputs)
        probabilities, labels = logits.float().softmax(1).topk(min(n_tags, len(self.labels)))
        return labels, probabilities, embeddings.float()

    @staticmethod
    def collect(submitted: Submitted) -> Tags:
        """Wait for submitted photos and return their tags."""
        return Tags(*(tensor.cpu().numpy() for tensor in submitted))


def load_tagger(settings: TaggerSettings, device: str = "cpu") -> Tagger:
    """Load a tagger by name.

    Raises:
        ConfigurationError: If the name is unknown, or a setting that the tagger needs is missing.
        ModelError: If its weights cannot be fetched, have another checksum, or do not fit the network.
    """
    files = tagger_files(settings)
    network = load_network(files.architecture, len(files.labels), files.weights)
    return Tagger(network, files.labels, files.preprocessing, device)
