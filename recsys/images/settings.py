"""Settings of tagging and themes; importing this module loads neither torch nor Spark."""

from typing import Literal

from pydantic import Field, PositiveFloat

from recsys.settings import StepSettings

Architecture = Literal["efficientnet_lite0", "resnet18", "resnet50", "squeezenet", "vgg16"]


class TaggerSettings(StepSettings):
    """The network that tags photos."""

    name: str = "efficientnet_lite0"
    """A tagger listed by `recsys tag --help`, or 'own' for your own weights."""
    weights: str | None = None
    """A local file (.pth, .pth.tar, .npz) instead of the official weights; 'own' and places365_squeezenet need one."""
    labels: str | None = None
    """A local file with one label per line, in the order of the network's outputs, instead of the official labels."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Expected SHA-256 of the weights file; by default the tagger's known checksum."""
    architecture: Architecture | None = None
    """Architecture of your own weights; only for 'own'."""
    channels: Literal["RGB", "BGR"] = "RGB"
    """Order of the colour channels that your own network expects; only for 'own'."""
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), strict=False)
    """Mean per channel, subtracted from colours in [0, 1]; only for 'own'."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field((0.229, 0.224, 0.225), strict=False)
    """Standard deviation per channel, by which colours are divided after the mean is subtracted; only for 'own'."""


class TaggingSettings(StepSettings):
    """How photos are read and tagged."""

    engine: Literal["auto", "spark", "process"] = "auto"
    """Spark's workers, or one process with all cores and the GPU; auto means process if Spark is local."""
    tags: int = Field(5, ge=1, le=100)
    """Number of most probable tags stored per photo."""
    batch: int = Field(8, ge=1)
    """Batch size of the network on a CPU, in photos; on a GPU it is 32 times as large."""
    part_photos: int = Field(2000, ge=1)
    """Photos per part that is saved: a run that is killed loses at most one part."""
    max_megapixels: float = Field(80.0, gt=0, le=89)
    """Maximum size of a photo in millions of pixels; a larger one is rejected before it is decoded."""
    max_megabytes: float = Field(100.0, gt=0)
    """Maximum size of a file in millions of bytes; a larger one is rejected."""
    max_seconds: float = Field(30.0, gt=0)
    """Maximum time in seconds to read a photo from a server; a slower one is rejected, and tried again later."""


class ThemeSettings(StepSettings):
    """Themes: components of a non-negative matrix factorisation (NMF) of the photos' tags."""

    themes: int = Field(30, ge=1, le=100)
    """Number of themes; `recsys themes choose` compares several numbers."""
    ignored_tags: tuple[str, ...] = Field((), strict=False)
    """Tags that are left out of themes and never shown, such as labels that the network often predicts wrongly."""
    names: dict[int, str] = {}
    """Names to use instead of the automatic ones, by theme id; `recsys themes` lists the ids, which are stable."""
    cover_weight: float = Field(2.0, gt=0)
    """Weight of a sale's cover relative to each of its other photos."""
    refit_days: int = Field(7, ge=1)
    """Age in days from which themes are refitted; until then new photos are projected onto the existing themes."""
    seed: int = Field(0, ge=0)
    """Random seed of the fit."""


class ImageSettings(StepSettings):
    """Photos of sales: where they are stored, which tagger is used, how themes are fitted."""

    root: str = ""
    """Base of relative paths in `image_uri`: a folder or an fsspec URL such as s3://bucket/photos; by default the
    working directory. Only photos below it are read, whatever address a sale names."""
    storage_options: dict[str, str] = {}
    """Options of the fsspec file system of URLs, such as key and secret; prefer environment variables for secrets."""
    taxonomies: str = "conf/taxonomies"
    """Folder of the shop's taxonomies of labels, one YAML file each; relative to the working directory."""
    tagger: TaggerSettings = TaggerSettings()
    tagging: TaggingSettings = TaggingSettings()
    themes: ThemeSettings = ThemeSettings()
