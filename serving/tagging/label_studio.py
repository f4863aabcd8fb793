"""The messages of Label Studio's machine learning backends: its tasks and its predictions.

Source:
    https://labelstud.io/guide/ml_create: POST /predict with `tasks` and `label_config`, GET /health, POST /setup.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from recsys.errors import ConfigurationError
from recsys.images.lab.taxonomy import Taxonomy
from serving.tagging.photo_tags import TaggedPhoto

_LOCAL_FILES = "/data/local-files/"


@dataclass(frozen=True)
class LabelConfig:
    """What a project's labelling interface calls the choices and the photo."""

    choices: str = "label"  # name of the <Choices>
    image: str = "image"  # name of the <Image>
    value: str = "image"  # key of the photo's address in the data of a task
    values: tuple[str, ...] = ()  # what can be chosen; empty if not known


def label_config(xml: Any) -> LabelConfig:
    """Return the names of a labelling interface with one <Choices> for an <Image>; the usual names without one.

    Raises:
        ConfigurationError: If the interface is no XML, or has no such choices.
    """
    if not xml:
        return LabelConfig()
    if not isinstance(xml, str):
        raise ConfigurationError("label_config must be a text: send the project's labelling interface")
    if "<!" in re.sub(r"<!--.*?-->", "", xml, flags=re.DOTALL):  # entities can grow without limit
        raise ConfigurationError("label_config has a declaration <!...>, must have none: take it out of the interface")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ConfigurationError(f"label_config is no XML ({error}): send the project's labelling interface") from None
    images = {each.get("name"): each.get("value", "") for each in root.iter("Image")}
    for choices in root.iter("Choices"):
        image = choices.get("toName")
        if image in images and choices.get("name"):
            values = tuple(each.get("alias") or each.get("value") or "" for each in choices.iter("Choice"))
            return LabelConfig(str(choices.get("name")), str(image), images[image].lstrip("$"), values)
    raise ConfigurationError(
        'label_config has no <Choices name="..." toName="..."> for an <Image>: give the project these two tags'
    )


def photo_of(task: Mapping[str, Any], config: LabelConfig) -> str:
    """Return the address of the photo of a task: of Label Studio's local files the path, others as they are.

    Raises:
        ConfigurationError: If the task has none.
    """
    data = task.get("data")
    uri = data.get(config.value) if isinstance(data, Mapping) else None
    if not isinstance(uri, str) or not uri:
        raise ConfigurationError(
            f"task {str(task.get('id'))[:50]!r} has no data.{config.value}, must have the address of a photo"
        )
    parts = urlsplit(uri) if _LOCAL_FILES in uri else None
    if parts is not None and parts.path.endswith(_LOCAL_FILES):
        return (parse_qs(parts.query).get("d") or [uri])[0]
    return uri


def predictions(
    photos: Sequence[TaggedPhoto], config: LabelConfig, taxonomy: Taxonomy, version: str
) -> list[dict[str, Any]]:
    """Return a prediction per photo; one without tags predicts nothing, with score 0, and says why."""
    found: list[dict[str, Any]] = []
    for photo in photos:
        prediction: dict[str, Any] = {"model_version": version, "score": 0.0, "result": []}
        if photo.reason is not None:
            prediction["error"] = f"{photo.reason}: {photo.detail}"
        elif photo.tags:
            prediction["score"] = photo.tags[0].probability
        if photo.said:
            chosen = [_as_choice(label, config, taxonomy) for label in photo.said]
            region = {"from_name": config.choices, "to_name": config.image, "type": "choices"}
            prediction["result"] = [region | {"value": {"choices": chosen}, "score": prediction["score"]}]
        found.append(prediction)
    return found


def _as_choice(label: str, config: LabelConfig, taxonomy: Taxonomy) -> str:
    """Return a label as the project spells it: by its id, or by its name."""
    name = taxonomy.name_of(label)
    return name if label not in config.values and name in config.values else label
