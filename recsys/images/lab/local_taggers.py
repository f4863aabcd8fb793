"""Trained taggers in the folder of a shop.

<folder>/taggers/<taxonomy>/<version>/    a version, see TrainedTagger
                            champion      the version that counts, one line; absent before one was promoted
"""

from pathlib import Path

from recsys.errors import ModelError
from recsys.images.lab.trained_tagger import DESCRIPTION, TrainedTagger
from recsys.wording import did_you_mean, visible

CHAMPION = "champion"


def local_tagger(folder: Path, name: str) -> TrainedTagger:
    """Read a version of a tagger.

    Args:
        folder: Folder of the shop.
        name: TAXONOMY for the champion, or the newest where none was promoted; TAXONOMY:champion; TAXONOMY:VERSION.

    Raises:
        ModelError: If there is no such version, or it is damaged.
    """
    taxonomy, _, wanted = name.partition(":")
    taggers = folder / "taggers"
    taxonomies = sorted({path.parent.parent.name for path in taggers.glob(f"*/[!.]*/{DESCRIPTION}")})
    if taxonomy not in taxonomies:
        known = f"must be one of {', '.join(taxonomies)}" if taxonomies else "but there is none yet"
        raise ModelError(
            f"tagger {visible(taxonomy)!r}, {known}{did_you_mean(taxonomy, taxonomies)}: "
            f"train one with 'recsys tagger train {visible(taxonomy)}'"
        )
    versions = sorted(
        (path.parent for path in (taggers / taxonomy).glob(f"[!.]*/{DESCRIPTION}")),
        key=lambda path: (path.stat().st_mtime, path.name),
    )
    pointer = taggers / taxonomy / CHAMPION
    champion = pointer.read_text("utf-8").strip() if pointer.exists() else None
    if wanted == CHAMPION and champion is None:
        raise ModelError(
            f"tagger {taxonomy!r} has no champion: promote a version with 'recsys tagger promote {taxonomy} VERSION', "
            f"or name one, such as {taxonomy}:{versions[-1].name}"
        )
    version = (champion or versions[-1].name) if wanted in ("", CHAMPION) else wanted
    found = next((path for path in versions if path.name == version), None)
    if found is None:
        names = [path.name for path in versions]
        raise ModelError(
            f"version {visible(version)!r} of tagger {taxonomy!r}, must be one of {', '.join(names)}"
            f"{did_you_mean(version, names)}"
        )
    return TrainedTagger.load(found)
