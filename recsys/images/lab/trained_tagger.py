"""Trained taggers: a base network and a head with the labels of a taxonomy; as files, and as tags of photos.

<folder>/tagger.json     taxonomy, settings of the base network, version of its embeddings, card
         head.npz        arrays of the head
         network.pth     weights of a base network that was fine-tuned; absent otherwise
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import ModelError
from recsys.images.lab.head import Head
from recsys.images.lab.taxonomy import Taxonomy
from recsys.images.settings import TaggerSettings
from recsys.images.tagging.taggers import TaggerFiles, tagger_files
from recsys.settings import digest
from recsys.storage.local import put_in_place, scratch_folder

DESCRIPTION = "tagger.json"
HEAD = "head.npz"
NETWORK = "network.pth"


@dataclass(frozen=True)
class TrainedTagger:
    """A version of a taxonomy's tagger."""

    taxonomy: Taxonomy
    base: TaggerSettings  # the network that gives the embeddings; of a fine-tuned one `weights` is the file NETWORK
    base_version: str  # version of the embeddings, see TaggerFiles
    head: Head
    sure: float  # least difference p1 - p2 of a sure label, kind single; kind multi: least distance from a threshold
    card: Mapping[str, Any] = field(default_factory=dict)  # what the version was made of, and its metrics

    @property
    def version(self) -> str:
        """A digest of all that determines its tags."""
        arrays = [each.tobytes().hex() for each in (*self.head.weights, *self.head.biases)]
        thresholds = None if self.head.thresholds is None else self.head.thresholds.tolist()
        content = [self.base_version, self.head.kind, self.head.labels, arrays, self.head.temperature, thresholds]
        return f"{self.taxonomy.name}-{digest([*content, self.sure])[:12]}"

    def network_files(self) -> TaggerFiles:
        """Return the files of the base network.

        Raises:
            ModelError: If it gives other embeddings than those that the head was trained on.
        """
        files = tagger_files(self.base)
        if files.network_version != self.base_version:
            raise ModelError(
                f"tagger {self.version}: its network has version {files.network_version}, must be {self.base_version}, "
                "on which its head was trained: restore the network's weights, or train the tagger again with "
                f"'recsys tagger train {self.taxonomy.name}'"
            )
        return files

    def save(self, folder: Path, network: Path | None = None) -> None:
        """Write the files into a new folder, whole or not at all; `network`: weights of a fine-tuned base."""
        arrays = {f"weight{n}": each for n, each in enumerate(self.head.weights)}
        arrays |= {f"bias{n}": each for n, each in enumerate(self.head.biases)}
        if self.head.thresholds is not None:
            arrays["thresholds"] = self.head.thresholds
        description = {
            "taxonomy": self.taxonomy.model_dump(mode="json"),
            "base": self.base.model_dump(mode="json"),
            "base_version": self.base_version,
            "labels": self.head.labels,
            "kind": self.head.kind,
            "temperature": self.head.temperature,
            "sure": self.sure,
            "card": dict(self.card),
        }
        with scratch_folder(folder.parent) as new:
            (new / DESCRIPTION).write_text(json.dumps(description, indent=2, ensure_ascii=False), "utf-8")
            np.savez(new / HEAD, **arrays)  # type: ignore[arg-type]
            if network is not None:
                (new / NETWORK).write_bytes(network.read_bytes())
            put_in_place(new, folder)

    @classmethod
    def load(cls, folder: Path) -> "TrainedTagger":
        """Read the files that `save` wrote.

        Raises:
            ModelError: If a file is absent or damaged.
        """
        try:
            description = json.loads((folder / DESCRIPTION).read_text("utf-8"))
            with np.load(folder / HEAD, allow_pickle=False) as arrays:
                n_layers = sum(name.startswith("bias") for name in arrays)
                head = Head(
                    description["kind"],
                    description["labels"],
                    [arrays[f"weight{n}"] for n in range(n_layers)],
                    [arrays[f"bias{n}"] for n in range(n_layers)],
                    description["temperature"],
                    arrays.get("thresholds"),
                )
            taxonomy, base = (
                Taxonomy.model_validate_json(json.dumps(description["taxonomy"])),
                TaggerSettings.model_validate_json(json.dumps(description["base"])),
            )
            if (folder / NETWORK).exists():
                base = base.model_copy(update={"weights": str(folder / NETWORK)})
            values = description["base_version"], head, description["sure"], description["card"]
            return cls(taxonomy, base, *values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{folder} holds no whole tagger ({error}): train it again with 'recsys tagger train'"
            ) from error
