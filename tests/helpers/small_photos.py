"""Small photos of one colour, and a small tagger of random weights."""

from pathlib import Path

import torch
from PIL import Image

from recsys.images.settings import TaggerSettings
from recsys.images.tagging.networks import ARCHITECTURES

N_LABELS = 10


def write_photo(path: Path, colour: tuple[int, int, int], side: int = 32) -> str:
    """Write a photo whose file size does not depend on its colour, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path, "BMP")
    return str(path)


def own_tagger(folder: Path, seed: int = 0) -> TaggerSettings:
    """Write the weights and labels of a tagger whose tags depend on the colour."""
    torch.manual_seed(seed)
    network = ARCHITECTURES["squeezenet"](N_LABELS)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.5)  # the tags of an untrained network are almost equally probable
    folder.mkdir(parents=True, exist_ok=True)
    weights, labels = folder / f"weights-{seed}.pth", folder / "labels.txt"
    torch.save(network.state_dict(), weights)
    labels.write_text("".join(f"thing {number}\n" for number in range(N_LABELS)))
    return TaggerSettings(name="own", architecture="squeezenet", weights=str(weights), labels=str(labels))
