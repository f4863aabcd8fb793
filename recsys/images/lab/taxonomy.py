"""Taxonomies: the labels that a shop gives its photos, one YAML file each."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from recsys.config import strict_yaml
from recsys.errors import ConfigurationError
from recsys.images.settings import TaggerSettings
from recsys.settings import StepSettings
from recsys.wording import did_you_mean, visible

EXAMPLE = Path("conf/taxonomies/rooms.yaml")
MAX_LABELS = 1000


class LabelSettings(StepSettings):
    """A label of a taxonomy."""

    id: str = Field(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$")
    """What is stored and learnt; it stays when the names change."""
    names: dict[str, str] = {}
    """Names to show instead of the id, by language or client, such as {en: suite with a sea view}."""
    parent: str | None = None
    """Id of the wider label that it belongs to."""


class Taxonomy(StepSettings):
    """The labels of one question about a photo, such as which room it shows."""

    schema_version: Literal[1]
    """Version of the format of the file."""
    name: str = Field(pattern="^[a-z][a-z0-9_]{0,49}$")
    """The name of the file; the tagger is registered as tagger_<name>."""
    kind: Literal["single", "multi"] = "single"
    """Whether a photo has one label of these, or any number."""
    labels: tuple[LabelSettings, ...] = Field(min_length=2, max_length=MAX_LABELS, strict=False)
    """The labels; their order is that of every table and matrix."""
    other: Literal["reject"] | None = None
    """With 'reject' a photo may show none of these: such photos are labelled and learnt, and get no tag."""
    base: TaggerSettings = TaggerSettings()
    """The tagger whose network gives the embeddings that the labels are learnt on."""

    @property
    def ids(self) -> list[str]:
        """The ids of the labels, in the order of every matrix of this taxonomy."""
        return [label.id for label in self.labels]

    def name_of(self, label: str, audience: str = "en") -> str:
        """Return the name of a label for a language or client; its id if it has none."""
        return next(each for each in self.labels if each.id == label).names.get(audience, label)

    @model_validator(mode="after")
    def _check_labels(self) -> Self:
        ids = self.ids
        for number, label in enumerate(self.labels):
            if not label.id.isprintable():
                raise ValueError(f"labels.{number}.id == '{visible(label.id)}', must be printable text")
            if label.id in ids[:number]:
                raise ValueError(f"labels.{number}.id == '{label.id}' occurs twice: give each label an id of its own")
            if label.parent is not None and (label.parent not in ids or label.parent == label.id):
                rule = f"must be the id of another label{did_you_mean(label.parent, ids)}"
                raise ValueError(f"labels.{number}.parent == '{visible(label.parent)}', {rule}")
        parents = {label.id: label.parent for label in self.labels}
        for label_id in ids:
            above, steps = parents[label_id], 0
            while above is not None:
                above, steps = parents[above], steps + 1
                if steps > len(ids):
                    raise ValueError(f"the parents of label '{label_id}' form a circle: take one of them out")
        return self


def load_taxonomy(folder: Path, name: str) -> Taxonomy:
    """Read a taxonomy.

    Args:
        folder: The folder of taxonomies.
        name: The name of the taxonomy, and of its file without .yaml.

    Raises:
        ConfigurationError: If there is none of that name, or its file breaks a rule.
    """
    path = folder / f"{name}.yaml"
    known = sorted(each.stem for each in folder.glob("*.yaml"))
    if name not in known:
        what = f"must be one of {', '.join(known)}{did_you_mean(name, known)}" if known else "but there is none yet"
        raise ConfigurationError(
            f"taxonomy '{visible(name)}', {what}: {folder} holds one YAML file for each, such as {EXAMPLE}"
        )
    taxonomy = strict_yaml.load(path, Taxonomy, str(EXAMPLE))
    if taxonomy.name != name:
        raise ConfigurationError(f"{path}: name == '{taxonomy.name}', must be the name of the file: '{name}'")
    return taxonomy
