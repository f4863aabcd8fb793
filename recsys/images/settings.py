"""What tagging and themes depend on; importing it starts neither torch nor Spark."""

from typing import Literal

from pydantic import Field, PositiveFloat

from recsys.settings import StepSettings

Architecture = Literal["efficientnet_lite0", "resnet18", "resnet50", "squeezenet", "vgg16"]


class TaggerSettings(StepSettings):
    """The network that names what a photo shows."""

    name: str = "efficientnet_lite0"
    """A tagger of `recsys tag --help`, or 'own' for weights of your own."""
    weights: str | None = None
    """A local file (.pth, .pth.tar, .npz) instead of the official weights; 'own' and places365_squeezenet need one."""
    labels: str | None = None
    """A local file of one label a line, in the order of the network's outputs, instead of the official one."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """What the weights' file must hash to; the known checksum of the tagger by default."""
    architecture: Architecture | None = None
    """The network of your own weights; for 'own' alone."""
    channels: Literal["RGB", "BGR"] = "RGB"
    """Order of colours of your own network."""
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), strict=False)
    """Subtracted from colours in [0, 1]; for 'own' alone."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field((0.229, 0.224, 0.225), strict=False)
    """Colours are divided by it; for 'own' alone."""


class TaggingSettings(StepSettings):
    """How photos are read and tagged."""

    engine: Literal["auto", "spark", "process"] = "auto"
    """Spark's workers, or one process with all cores and the GPU; auto takes one process where Spark is local."""
    tags: int = Field(5, ge=1, le=100)
    """So many of the best tags are kept."""
    batch: int = Field(8, ge=1)
    """Photos that the network sees at once on a CPU; thirty-two times as many on a GPU."""
    part_photos: int = Field(2000, ge=1)
    """After so many photos what is done is saved: a run that is killed loses no more."""
    max_megapixels: float = Field(80.0, gt=0, le=89)
    """A larger photo is set aside, before it is decoded."""
    max_megabytes: float = Field(100.0, gt=0)
    """A larger file is set aside."""


class ThemeSettings(StepSettings):
    """Themes: what photos have in common, found by NMF over their tags."""

    themes: int = Field(30, ge=1, le=100)
    """How many; `recsys themes choose` compares numbers."""
    ignored_tags: tuple[str, ...] = Field((), strict=False)
    """Tags that make no theme and are never shown, such as those of a network that knows no better."""
    names: dict[int, str] = {}
    """What to call themes instead, by their ids of `recsys themes`, which stay."""
    cover_weight: float = Field(2.0, gt=0)
    """A sale's cover counts as much as so many of its other photos."""
    refit_days: int = Field(7, ge=1)
    """Themes are fitted anew once they are so old; in between, new photos are projected onto them."""
    seed: int = Field(0, ge=0)
    """Seed of the fit."""


class ImageSettings(StepSettings):
    """Photos of sales: where they lie, what tags them, how themes are made."""

    root: str = ""
    """What relative paths of `image_uri` are relative to: a folder or an fsspec URL such as s3://bucket/photos."""
    storage_options: dict[str, str] = {}
    """Options of the fsspec file system of URLs, such as key and secret; better left to its own environment."""
    tagger: TaggerSettings = TaggerSettings()
    tagging: TaggingSettings = TaggingSettings()
    themes: ThemeSettings = ThemeSettings()
