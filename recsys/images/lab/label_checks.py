"""Whether labels can be learnt from: a list of checks, and the card that tells where a data set comes from."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recsys.errors import EmptyInputError
from recsys.images.lab.dataset import Dataset
from recsys.images.lab.label_words import NONE_OF_THESE
from recsys.images.lab.neighbours import near_duplicate_pairs
from recsys.images.lab.shop_photos import ShopPhotos
from recsys.images.lab.splits import SHARES
from recsys.images.lab.taxonomy import Taxonomy
from recsys.settings import digest
from recsys.wording import did_you_mean, plural

MIN_PHOTOS = 5
"""Photos that a label needs: with fewer, not each fold of five has one."""
MOST_IMBALANCE = 20
"""Factor between the most and the least frequent label from which the rare one is hardly ever said."""
LARGEST_GROUP = 0.2
"""Share of the photos from which one group makes the parts unequal."""
_EXAMPLES = 5

Outcome = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Check:
    """The result of a check."""

    name: str
    outcome: Outcome  # FAIL: do not train on this; WARN: know this
    found: str
    next_step: str = ""  # empty where it passes


def check_labels(photos: ShopPhotos) -> tuple[list[Check], Dataset | None]:
    """Return the checks of a taxonomy's labels, and the data set; None where no photo can be learnt from."""
    rows = photos.labels.current().to_pylist()
    try:
        dataset = photos.dataset()
    except EmptyInputError:
        dataset = None
    checks = [
        _labelled(rows, photos.taxonomy),
        _unknown_labels(rows, photos.taxonomy),
        *_unseen(rows, photos),
        _missing_files(rows),
    ]
    if dataset is not None:
        sources = {row["image_hash"]: row["source"] for row in rows}
        checks += dataset_checks(dataset, photos.taxonomy, sources)
    return checks, dataset


def dataset_checks(dataset: Dataset, taxonomy: Taxonomy, sources: Mapping[str, str]) -> list[Check]:
    """Return the checks of labelled photos that have embeddings.

    Args:
        dataset: The photos.
        taxonomy: Their taxonomy.
        sources: Who labelled each photo, by image_hash: a `Source`.
    """
    counts = label_counts(dataset, taxonomy)
    return [
        _classes(counts),
        _few_photos(counts, taxonomy),
        _test_part(dataset, counts),
        _two_labels(dataset),
        _parents(counts, taxonomy),
        _imbalance(counts),
        _largest_group(dataset),
        _sources(dataset, sources),
    ]


def label_counts(dataset: Dataset, taxonomy: Taxonomy) -> dict[str, dict[str, int]]:
    """Return the number of photos by label and part; NONE_OF_THESE last, where the taxonomy has it."""
    columns = dict(zip(dataset.labels, dataset.targets.T, strict=True))
    if taxonomy.other == "reject" or taxonomy.kind == "multi":
        columns[NONE_OF_THESE] = ~dataset.targets.any(1)
    return {
        label: {part: int((of_label & (dataset.parts == part)).sum()) for part in SHARES}
        for label, of_label in columns.items()
    }


def dataset_hash(dataset: Dataset) -> str:
    """Return a digest of contents and labels, the same wherever the photos lie and whoever said the labels."""
    photos = zip(dataset.image_hashes.tolist(), dataset.targets.tolist(), strict=True)
    return digest([dataset.labels, [[image_hash, np.flatnonzero(row).tolist()] for image_hash, row in photos]])[:16]


def dataset_card(
    dataset: Dataset, taxonomy: Taxonomy, rows: pa.Table, checks: Sequence[Check], embeddings: str, terms: str
) -> str:
    """Return the card of a data set as Markdown.

    Args:
        dataset: The photos.
        taxonomy: Their taxonomy.
        rows: The rows of LABELS that count.
        checks: See `check_labels`.
        embeddings: Version of the embeddings.
        terms: Licences of the photos, and terms under which the labels were made.
    """
    words = rows.to_pylist()
    instants = [row["at"] for row in words]
    counts, groups = label_counts(dataset, taxonomy), len(np.unique(dataset.groups))
    said = Counter((row["source"], row["by"]) for row in words)
    lines = [
        f"# Labels of {taxonomy.name}",
        "",
        f"- Kind: {taxonomy.kind}{', photos may show none of these' if taxonomy.other else ''}",
        f"- Photos: {len(dataset):,} in {plural(groups, 'group')} (the same or nearly, or of one sale)",
        f"- Labelled photos that cannot be learnt from: {len(words) - len(dataset):,}",
        f"- Said from {min(instants):%Y-%m-%d} to {max(instants):%Y-%m-%d}",
        f"- Hash of contents and labels: `{dataset_hash(dataset)}`",
        f"- Embeddings: `{embeddings}`",
        f"- Licences and terms: {' '.join(terms.split()) or 'not stated; say it with --terms'}",
        "",
        *_markdown(
            ["label", "photos", *SHARES],
            ([label, sum(parts.values()), *parts.values()] for label, parts in counts.items()),
        ),
        "",
        *_markdown(["source", "by", "photos"], ([*who, count] for who, count in said.most_common())),
        "",
        *_markdown(["check", "result", "found"], ([each.name, each.outcome, each.found] for each in checks)),
    ]
    return "\n".join(lines) + "\n"


def _labelled(rows: Sequence[Mapping[str, Any]], taxonomy: Taxonomy) -> Check:
    next_step = "" if rows else f"recsys tagger label import {taxonomy.name} FOLDER"
    return _check("labelled photos", f"{len(rows):,}", next_step)


def _unknown_labels(rows: Sequence[Mapping[str, Any]], taxonomy: Taxonomy) -> Check:
    known = set(taxonomy.ids)
    unknown = Counter(label for row in rows for label in row["labels"] if label not in known)
    told = [f"'{label}' {count:,}{did_you_mean(label, known)}" for label, count in unknown.most_common(_EXAMPLES)]
    step = "add them to the taxonomy, or label their photos again: until then they are not learnt" if unknown else ""
    return _check(
        "labels of the taxonomy", f"{len(unknown)} unknown: {', '.join(told)}" if unknown else "all known", step
    )


def _unseen(rows: Sequence[Mapping[str, Any]], photos: ShopPhotos) -> Iterator[Check]:
    """Yield whether the base network has seen all labelled photos, and if not, why."""
    hashes = {row["image_hash"] for row in rows}
    seen = set(photos.store.embeddings(pa.array(sorted(hashes), pa.string()))["image_hash"].to_pylist())
    tagged = photos.store.outputs(["image_hash", "reason"]).to_pylist()
    why = Counter(row["reason"] for row in tagged if row["reason"] and row["image_hash"] in hashes - seen)
    n_new = len(hashes - seen) - sum(why.values())
    told = [f"{count:,} {reason}" for reason, count in why.most_common()] + [
        f"{n_new:,} not seen by this base network"
    ] * bool(n_new)
    step = (
        "import these photos again: labels that are known are not said twice, and the network sees the photos"
        if n_new
        else "label other photos instead"
    )
    yield _check("embeddings", ", ".join(told) or "all there", step if told else "")


def _missing_files(rows: Sequence[Mapping[str, Any]]) -> Check:
    missing = [
        row["image_uri"] for row in rows if "://" not in row["image_uri"] and not Path(row["image_uri"]).exists()
    ]
    step = "they are learnt from, as their embeddings are kept, but not shown nor fine-tuned on: put them back"
    return _check(
        "photos on the disk",
        f"{len(missing):,} missing, such as {missing[0]}" if missing else "all there",
        step if missing else "",
        "WARN",
    )


def _classes(counts: Mapping[str, Mapping[str, int]]) -> Check:
    used = [label for label, parts in counts.items() if sum(parts.values())]
    step = "" if len(used) > 1 else "label photos of another label too: there is nothing to tell apart"
    return _check("labels with photos", f"{len(used)} of {len(counts)}", step)


def _few_photos(counts: Mapping[str, Mapping[str, int]], taxonomy: Taxonomy) -> Check:
    parents = {label.parent for label in taxonomy.labels}
    totals = {label: sum(parts.values()) for label, parts in counts.items()}
    few = [
        f"'{label}' {total}"
        for label, total in totals.items()
        if total < MIN_PHOTOS and not (total == 0 and (label in parents or label == NONE_OF_THESE))
    ]
    step = "label more photos of these ('recsys tagger next' finds candidates), or take them out of the taxonomy"
    return _check(
        f"{MIN_PHOTOS} photos per label",
        _told(few) or f"at least {min(totals.values(), default=0)}",
        step if few else "",
    )


def _test_part(dataset: Dataset, counts: Mapping[str, Mapping[str, int]]) -> Check:
    absent = [f"'{label}'" for label, parts in counts.items() if sum(parts.values()) and not parts["test"]]
    step = "their accuracy cannot be measured: label photos of other sales, of which one in five is for the test"
    sizes = ", ".join(f"{int((dataset.parts == part).sum()):,} {part}" for part in SHARES)
    return _check("test photos per label", f"none of {_told(absent)}" if absent else sizes, step if absent else "")


def _two_labels(dataset: Dataset) -> Check:
    pairs = near_duplicate_pairs(dataset.embeddings)
    differing = pairs[(dataset.targets[pairs[:, 0]] != dataset.targets[pairs[:, 1]]).any(1)]
    told = [f"{dataset.image_uris[first]} and {dataset.image_uris[second]}" for first, second in differing[:2]]
    step = "look at them ('recsys tagger clean' shows them first) and say one label"
    found = f"{plural(len(differing), 'pair')}: {'; '.join(told)}" if told else f"none in {plural(len(pairs), 'pair')}"
    return _check("near duplicates with two labels", found, step if told else "", "WARN")


def _parents(counts: Mapping[str, Mapping[str, int]], taxonomy: Taxonomy) -> Check:
    if taxonomy.kind == "multi":
        return _check("parents beside children", "a photo has the parents of its labels", "")
    used = {label for label, parts in counts.items() if sum(parts.values())}
    both = sorted({f"'{each.parent}'" for each in taxonomy.labels if {each.id, each.parent} <= used})
    step = "the wider label is learnt as what is none of the narrower ones: label such photos with one of those"
    return _check(
        "parents beside children",
        f"photos of {_told(both)} and of narrower labels" if both else "none",
        step if both else "",
        "WARN",
    )


def _imbalance(counts: Mapping[str, Mapping[str, int]]) -> Check:
    totals = {label: sum(parts.values()) for label, parts in counts.items() if sum(parts.values())}
    rare, frequent = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    step = (
        "label more of the rare one, if it is rare by accident"
        if totals[frequent] > MOST_IMBALANCE * totals[rare]
        else ""
    )
    return _check("balance", f"'{frequent}' {totals[frequent]:,}, '{rare}' {totals[rare]:,}", step, "WARN")


def _largest_group(dataset: Dataset) -> Check:
    largest = int(np.bincount(dataset.groups).max())
    step = (
        "their parts cannot be equal: photos of one sale, or all alike, are never divided; label photos of other sales"
    )
    is_large = largest > max(LARGEST_GROUP * len(dataset), 1)
    return _check("largest group", f"{largest:,} of {plural(len(dataset), 'photo')}", step if is_large else "", "WARN")


def _sources(dataset: Dataset, sources: Mapping[str, str]) -> Check:
    said = Counter(sources[each] for each in dataset.image_hashes.tolist())
    test = dataset.part("test").image_hashes.tolist()
    n_machine = sum(sources[each] != "person" for each in test)
    told = ", ".join(f"{source} {count / len(dataset):.0%}" for source, count in said.most_common())
    step = f"{n_machine:,} of {plural(len(test), 'test photo')} labelled by no person: let a person review them"
    return _check("sources", told, step if n_machine else "", "WARN")


def _check(name: str, found: str, next_step: str, otherwise: Outcome = "FAIL") -> Check:
    return Check(name, otherwise if next_step else "PASS", found, next_step)


def _told(items: Sequence[str]) -> str:
    more = f" and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else ""
    return ", ".join(items[:_EXAMPLES]) + more


def _markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [[str(each).replace("|", "\\|").replace("\n", " ") for each in row] for row in rows]
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *cells)]
