"""Labels in Label Studio's JSON, in and out, and its labelling interface."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from recsys.errors import InputError
from recsys.images.lab.head import Head
from recsys.images.lab.label_files import text_of
from recsys.images.lab.label_words import REASONS, Reading, Speaker, label_ids, rejected_row, take_row
from recsys.images.lab.taxonomy import Taxonomy
from recsys.wording import plural

LOCAL_FILES = "/data/local-files/"
"""Path under which Label Studio shows files of its own disk; `d` is relative to LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT,
here the root of the disk."""


def read_label_studio(path: Path, taxonomy: Taxonomy, speaker: Speaker) -> Reading:
    """Read the export of Label Studio in its formats JSON and JSON-MIN: each annotation of a task is a word.

    Of the choices those of the taxonomy's name (`from_name`) count, or all where no such name occurs. Predictions are
    not labels, and are left out.

    Raises:
        InputError: If the file is no list of tasks.
    """
    try:
        tasks = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not readable as JSON ({error}): export it from Label Studio as JSON again"
        ) from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError(f"{path} must hold a list of tasks: export it from Label Studio as JSON or JSON-MIN")
    reading, ids, n_predictions = Reading(), label_ids(taxonomy), 0
    for number, task in enumerate(tasks):
        where = f"task {task.get('id', number)}"
        data = task["data"] if isinstance(task.get("data"), dict) else task
        meta = {name: str(data[name]) for name in ("taxonomy", "source", "by", "at") if data.get(name) is not None}
        cells = {"image_uri": _image_of(data), **meta}
        predictions = task.get("predictions")
        n_predictions += len(predictions) if isinstance(predictions, list) else 0
        for annotation in _annotations(task):
            said = cells | _cells_of_annotation(annotation)
            if annotation.get("was_cancelled"):
                reading.rejected.append(rejected_row(said, "", "skipped", REASONS["skipped"], where))
                continue
            take_row(reading, said, _choices(annotation, taxonomy.name), where, taxonomy, ids, speaker)
    if n_predictions:
        reading.notes.append(f"{plural(n_predictions, 'prediction')} left out: only annotations are labels")
    return reading


def predictions_of(
    head: Head, image_hashes: NDArray[np.str_], embeddings: NDArray[np.float32]
) -> dict[str, tuple[list[str], float]]:
    """Return the labels that a head says of each photo, and the probability of the most probable one."""
    probabilities = head.probabilities(embeddings)
    said = zip(head.said(probabilities), probabilities.max(1).tolist(), strict=True)
    return dict(zip(image_hashes.tolist(), said, strict=True))


def label_studio_tasks(
    rows: Sequence[Mapping[str, Any]],
    taxonomy: Taxonomy,
    predictions: Mapping[str, tuple[list[str], float]] | None = None,
    version: str = "",
) -> list[dict[str, Any]]:
    """Return tasks in the JSON that Label Studio imports; who said what and when is in their data.

    Args:
        rows: Rows of LABELS; labels None: a photo to be labelled.
        taxonomy: The taxonomy.
        predictions: Labels and score in [0, 1] by image_hash, shown to the labeller.
        version: The version of the tagger that predicted.
    """
    tasks = []
    for row in rows:
        data = {"image": label_studio_uri(row["image_uri"]), "image_hash": row["image_hash"], "taxonomy": taxonomy.name}
        task: dict[str, Any] = {"data": data}
        if row["labels"] is not None:
            data |= {"source": row["source"], "by": row["by"], "at": row["at"].isoformat()}
            task["annotations"] = [{"result": _result(row["labels"], taxonomy.name)}]
        if predictions and row["image_hash"] in predictions:
            labels, score = predictions[row["image_hash"]]
            result = _result(labels, taxonomy.name)
            task["predictions"] = [{"model_version": version, "score": round(float(score), 6), "result": result}]
        tasks.append(task)
    return tasks


def label_studio_config(taxonomy: Taxonomy, audience: str = "en") -> str:
    """Return the labelling interface of a taxonomy for Label Studio: names are shown, ids are said."""
    choice = "single" if taxonomy.kind == "single" else "multiple"
    names = [(taxonomy.name_of(each, audience), each) for each in taxonomy.ids]
    lines = [f"    <Choice value={quoteattr(name)} alias={quoteattr(label)}/>" for name, label in names]
    choices = f'  <Choices name={quoteattr(taxonomy.name)} toName="image" choice="{choice}">'
    return "\n".join(
        ["<View>", '  <Image name="image" value="$image"/>', choices, *lines, "  </Choices>", "</View>", ""]
    )


def label_studio_uri(uri: str) -> str:
    """Return the address under which Label Studio shows a photo."""
    return uri if "://" in uri else f"{LOCAL_FILES}?d={quote(uri.lstrip('/'))}"


def _annotations(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the annotations of a task; a row of JSON-MIN is its own only one."""
    if "data" not in task:
        yield task
        return
    annotations = task.get("annotations") or task.get("completions") or ()
    yield from (each for each in annotations if isinstance(each, dict))


def _cells_of_annotation(annotation: Mapping[str, Any]) -> dict[str, str]:
    who = annotation.get("completed_by", annotation.get("annotator"))
    by = who.get("email") or who.get("id") if isinstance(who, dict) else who
    at = annotation.get("updated_at") or annotation.get("created_at")
    cells = {"by": f"label studio {by}" if isinstance(by, int) else by, "at": at}
    return {name: str(value) for name, value in cells.items() if value}


def _choices(annotation: Mapping[str, Any], name: str) -> list[str]:
    """Return the choices of an annotation: those of the control that is named as the taxonomy, or else all."""
    results = annotation.get("result")
    if not isinstance(results, list):  # JSON-MIN: {"rooms": "suite"} or {"rooms": {"choices": ["suite"]}}
        value = annotation.get(name, annotation.get("choice"))
        value = value.get("choices") if isinstance(value, dict) else value
        return [value] if isinstance(value, str) else [str(each) for each in value or ()]
    choices = [each for each in results if isinstance(each, dict) and each.get("type") == "choices"]
    named = [each for each in choices if each.get("from_name") == name] or choices
    found = [each["value"].get("choices") for each in named if isinstance(each.get("value"), dict)]
    return [str(choice) for of_control in found for choice in of_control or ()]


def _image_of(data: Mapping[str, Any]) -> str:
    """Return the photo of a task: its `image`, or the only value that looks like a path."""
    values = {key: value for key, value in data.items() if isinstance(value, str)}
    uri = values.get("image") or next((value for key, value in values.items() if "/" in value and key != "by"), "")
    if urlsplit(uri).path == LOCAL_FILES:
        below = parse_qs(urlsplit(uri).query).get("d", [""])[0]
        return f"/{below}" if Path(f"/{below}").exists() else below
    return uri


def _result(labels: Sequence[str], name: str) -> list[dict[str, Any]]:
    if not labels:
        return []
    return [{"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": list(labels)}}]
