"""Heads: the last layers of a tagger, from stored embeddings to the probabilities of a shop's labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from recsys.errors import ModelError


@dataclass(frozen=True)
class Head:
    """Fully connected layers with ReLU between them, on embeddings of length 1; arrays only, so torch is not needed.

    Of kind single the outputs are exclusive; where photos may show none of these, the last output, beyond the labels,
    is its class.
    """

    kind: Literal["single", "multi"]
    labels: list[str]
    weights: list[NDArray[np.float32]]  # per layer (n_inputs, n_outputs)
    biases: list[NDArray[np.float32]]  # per layer (n_outputs,)
    temperature: float = 1.0  # by which logits are divided, fitted on the validation part
    thresholds: NDArray[np.float32] | None = (
        None  # (n_labels,), of kind multi: probabilities from which a label is said
    )

    @property
    def has_other(self) -> bool:
        """Whether the last output means: none of these."""
        return len(self.biases[-1]) > len(self.labels)

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs, shape (n_photos, n_outputs), of embeddings of shape (n_photos, n_features).

        Raises:
            ModelError: If the head takes another number of features.
        """
        width = self.weights[0].shape[0]
        if embeddings.shape[1] != width:
            raise ModelError(
                f"embeddings have {embeddings.shape[1]} features, the head takes {width}: they are of another base "
                "network; train the tagger again with 'recsys tagger train'"
            )
        values = unit_length(embeddings)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = values @ weight + bias
            if number < len(self.weights) - 1:
                values = np.maximum(values, 0)
        return values

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return calibrated probabilities, shape (n_photos, n_outputs): softmax of kind single, else one by one."""
        logits = self.logits(embeddings) / self.temperature
        probabilities = softmax(logits, axis=1) if self.kind == "single" else expit(logits)
        return probabilities.astype(np.float32)

    def margins(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how sure each photo's labels are, shape (n_photos,), in [0, 1].

        Of kind single the difference of the two highest probabilities; of kind multi the least distance of a label's
        probability from its threshold.
        """
        if self.kind == "multi":
            return np.abs(probabilities - self._thresholds()).min(1)
        highest = np.partition(probabilities, -2, axis=1)
        return highest[:, -1] - highest[:, -2]

    def said(self, probabilities: NDArray[np.float32]) -> list[list[str]]:
        """Return the labels that are said of each photo: one or none of kind single, any number of kind multi."""
        if self.kind == "multi":
            return [[self.labels[n] for n in np.flatnonzero(row)] for row in probabilities >= self._thresholds()]
        return [self.labels[best : best + 1] for best in probabilities.argmax(1)]  # beyond the labels: none of these

    def _thresholds(self) -> NDArray[np.float32]:
        return np.full(len(self.labels), 0.5, np.float32) if self.thresholds is None else self.thresholds


def unit_length(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings of length 1, shape (n_photos, n_features); one of zeros stays."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return (embeddings / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32, copy=False)
