"""`recsys tagger label import | export | check | undo | erase`: the labels of a shop's photos."""

import getpass
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console
from recsys.config.settings import load_settings
from recsys.console import progress_bar
from recsys.errors import ConfigurationError, InputError, ModelError
from recsys.images.lab.label_store import ERASED, LABELS_FOLDER, LabelStore, Source
from recsys.images.lab.taxonomy import load_taxonomy
from recsys.wording import did_you_mean, plural

if TYPE_CHECKING:
    from recsys.images.lab.shop_photos import ShopPhotos

label = typer.Typer(
    no_args_is_help=True,
    help="Labels of photos: import, export, check, take back, erase.\n\n"
    "A **taxonomy** is a YAML file in `images.taxonomies` (conf/taxonomies): its name, `kind: single` or `multi`, and "
    "its labels. Labels are kept by the content of a photo; the last word on a photo counts.",
)


class Format(StrEnum):
    """The shape of a file of labels."""

    AUTO = "auto"
    FOLDERS = "folders"
    CSV = "csv"
    LABEL_STUDIO = "label-studio"


TaxonomyName = Annotated[str, typer.Argument(help="Name of a taxonomy, such as rooms.")]
By = Annotated[str | None, typer.Option(help="Who says it; the user of the operating system by default.")]
Separator = Annotated[str, typer.Option(help="What divides several labels of one photo in a CSV file.")]


@label.command("import")
def import_(
    taxonomy: TaxonomyName,
    source: Annotated[Path, typer.Argument(help="A folder with one folder of photos per label, a .csv or a .json.")],
    conf: Conf = DEMO,
    kind: Annotated[
        Format, typer.Option("--format", help="By default a folder, .csv or .json tells it.")
    ] = Format.AUTO,
    photos: Annotated[
        str | None, typer.Option(help="Folder or URL below which the photos of a file lie; images.root by default.")
    ] = None,
    by: By = None,
    said_by: Annotated[
        str, typer.Option("--source", help="person, api or rule: what kind of speaker that is.")
    ] = "person",
    separator: Separator = "|",
) -> None:
    """Import labels, and run the base network on photos that it has not seen.

    A CSV file has the columns **image_uri** and **labels**, and optionally taxonomy, source, by and at. JSON is that of
    Label Studio's export. Photos in a folder `none_of_these` show none of the labels. Rows that cannot be used are
    written to a CSV file with the reason, to be corrected and imported. Killed, it goes on where it was when repeated.
    """
    from cli.tables.labels import print_import
    from recsys.images.lab import label_files, label_studio, label_words

    shop = _shop(conf, taxonomy)
    speaker = label_words.Speaker(_name(by), _source(said_by), datetime.now(UTC))
    found, root = _format_of(source, kind, reads=True), photos
    if found is Format.FOLDERS:
        if photos is not None:
            raise ConfigurationError(f"--photos == {photos!r}: the photos of a folder lie in it, leave the option out")
        reading, root = label_files.read_folders(source, shop.taxonomy, speaker), str(source.resolve())
    elif found is Format.CSV:
        reading = label_files.read_csv(source, shop.taxonomy, speaker, separator)
    else:
        reading = label_studio.read_label_studio(source, shop.taxonomy, speaker)
    with progress_bar(console) as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        said = label_words.import_labels(reading, shop, root, show)
    if said.rejected:
        file = label_files.write_rejected(said.rejected, shop.labels.folder, shop.taxonomy.name, speaker.at)
        below = f" --photos {root}" if root else ""
        console.print(f"All rows put aside are in {file}: correct them there and import it{below}")
    print_import(said, reading.notes, shop.labels.current(), shop.taxonomy, console)
    if not said.n_added and not said.n_known:
        raise InputError(f"0 of {plural(len(said.rejected), 'row')} of {source} could be used: see the reasons above")


@label.command()
def export(
    taxonomy: TaxonomyName,
    target: Annotated[Path, typer.Argument(help="A .csv or .json file, or a new folder.")],
    conf: Conf = DEMO,
    kind: Annotated[
        Format, typer.Option("--format", help="By default .csv or .json tells it; else folders.")
    ] = Format.AUTO,
    tagger: Annotated[
        Path | None, typer.Option(help="Folder of a trained tagger whose predictions Label Studio is to show.")
    ] = None,
    unlabelled: Annotated[bool, typer.Option(help="Export the photos without a label too, to be labelled.")] = False,
    separator: Separator = "|",
) -> None:
    """Export the labels that count: as CSV, as folders of photos, or as Label Studio's JSON with its interface (.xml).

    Label Studio shows photos of the disk where LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and
    LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/.
    """
    from recsys.images.lab import label_files, label_studio
    from recsys.images.lab.trained_tagger import TrainedTagger
    from recsys.storage.local import write_whole

    shop = _shop(conf, taxonomy)
    rows, found = shop.labels.current().to_pylist(), _format_of(target, kind, reads=False)
    if found is not Format.LABEL_STUDIO and (tagger or unlabelled):
        raise ConfigurationError("--tagger and --unlabelled are for Label Studio's JSON: give a .json file")
    if found is Format.CSV:
        label_files.write_csv(rows, target, separator)
    elif found is Format.FOLDERS:
        if target.exists() and any(target.iterdir()):
            raise ConfigurationError(f"{target} is not empty: give a new folder")
        for problem in label_files.write_folders(rows, target, shop.read):
            console.print(f"Warning: {problem}", style="yellow")
    else:
        photos = shop.photos() if unlabelled or tagger else None
        if photos is not None and unlabelled:
            labelled = {row["image_hash"] for row in rows}
            new = zip(photos.image_hashes.tolist(), photos.image_uris.tolist(), strict=True)
            rows += [
                {"image_hash": each, "image_uri": uri, "labels": None} for each, uri in new if each not in labelled
            ]
        trained, predictions = TrainedTagger.load(tagger) if tagger else None, None
        if trained and photos is not None:
            if trained.base_version != shop.version:
                rule = f"must be {shop.version}, of this taxonomy's base: train the tagger again"
                raise ModelError(f"{tagger}: embeddings == {trained.base_version}, {rule}")
            predictions = label_studio.predictions_of(trained.head, photos.image_hashes, photos.embeddings)
        version = trained.version if trained else ""
        tasks = label_studio.label_studio_tasks(rows, shop.taxonomy, predictions, version)
        write_whole(target, json.dumps(tasks, indent=1, ensure_ascii=False) + "\n")
        write_whole(target.with_suffix(".xml"), label_studio.label_studio_config(shop.taxonomy))
    console.print(f"{plural(len(rows), 'photo')} in {target}")


@label.command()
def check(
    taxonomy: TaxonomyName,
    conf: Conf = DEMO,
    card: Annotated[
        Path | None, typer.Option(help="Write the dataset card here; by default beside the labels.")
    ] = None,
    terms: Annotated[str, typer.Option(help="Licences of the photos and terms of the labels, for the card.")] = "",
    json_file: JsonFile = None,
) -> None:
    """Check whether labels can be learnt from, and write the dataset card. A FAIL gives exit status 1."""
    from cli.tables.labels import print_checks, print_counts
    from recsys.images.lab.label_checks import check_labels, dataset_card, label_counts
    from recsys.storage.local import write_whole

    shop = _shop(conf, taxonomy)
    checks, dataset = check_labels(shop)
    if dataset is not None:
        print_counts(label_counts(dataset, shop.taxonomy), console)
    print_checks(checks, console)
    if dataset is not None:
        file = card or shop.labels.folder / shop.taxonomy.name / "card.md"
        text = dataset_card(dataset, shop.taxonomy, shop.labels.current(), checks, shop.version, terms)
        write_whole(file, text)
        console.print(f"Dataset card in {file}")
    if json_file:
        json_file.write_text(json.dumps([asdict(each) for each in checks], indent=2, ensure_ascii=False) + "\n")
    if failed := [each.name for each in checks if each.outcome == "FAIL"]:
        raise InputError(f"{plural(len(failed), 'check')} of '{taxonomy}' failed ({', '.join(failed)}): see above")


@label.command()
def undo(
    taxonomy: TaxonomyName,
    photo: Annotated[str | None, typer.Argument(help="Path or content hash of a photo; else what came last.")] = None,
    conf: Conf = DEMO,
    by: By = None,
) -> None:
    """Take back the last word on a photo, or all of the last import or review. What was said before counts again."""
    store, now = _store(conf, taxonomy), datetime.now(UTC)
    who, hashes = _name(by), [] if photo is None else _hashes_of(store, photo)
    n_words = store.undo(hashes, who, now) if hashes else store.undo_last(who, now)
    if not n_words:
        raise InputError(f"taxonomy '{taxonomy}' has no label to take back{f' of {photo}' if photo else ''}: check it")
    console.print(f"{plural(n_words, 'label')} taken back; {plural(store.current().num_rows, 'labelled photo')} left")


@label.command()
def erase(
    taxonomy: TaxonomyName,
    photo: Annotated[str | None, typer.Option(help="Path or content hash of a photo whose labels to remove.")] = None,
    name: Annotated[str | None, typer.Option("--by", help="A speaker whose name to remove; the labels stay.")] = None,
    conf: Conf = DEMO,
) -> None:
    """Remove for good all that was said about a photo, or the name of who said labels."""
    from recsys.images.lab.splits import forget_parts

    if (photo is None) == (name is None):
        raise ConfigurationError("give either --photo or --by: what is to be erased")
    store = _store(conf, taxonomy)
    if photo is not None:
        hashes = _hashes_of(store, photo)
        n_rows = sum(store.erase_photo(each) for each in hashes)
        forget_parts(store.folder / store.taxonomy, hashes)
        console.print(f"Erased: {plural(n_rows, 'row')} of labels, and the part of the photo.")
        console.print("Kept: the photo, its embedding in the store of photos, rows put aside in rejected_labels, and")
        console.print("versions that learnt from it.")
    else:
        n_rows = store.erase_name(str(name))
        console.print(f"Erased: a name in {plural(n_rows, 'row')}, now '{ERASED}'; the labels stay.")
        console.print("Kept: rows put aside in rejected_labels, and dataset cards: remove those files.")
    if not n_rows:
        console.print(f"Note: nothing here held {photo or name!r}: check it.", style="yellow")


def _shop(conf: Path, taxonomy: str) -> "ShopPhotos":
    from recsys.images.lab.shop_photos import ShopPhotos

    settings = load_settings(conf)
    return ShopPhotos.of(settings, load_taxonomy(Path(settings.images.taxonomies), taxonomy))


def _store(conf: Path, taxonomy: str) -> LabelStore:
    """Return the labels of a taxonomy, for which no base network is needed."""
    settings = load_settings(conf)
    name = load_taxonomy(Path(settings.images.taxonomies), taxonomy).name
    return LabelStore(settings.own_disk / LABELS_FOLDER, name)


def _hashes_of(store: LabelStore, photo: str) -> list[str]:
    """Return the content hashes of the labelled photos that a path, the end of one or a content hash names."""
    rows = store.history().select(["image_hash", "image_uri"]).to_pylist()
    names = (photo, os.path.abspath(photo))  # noqa: PTH100  any text
    exact = {row["image_hash"] for row in rows if photo == row["image_hash"] or row["image_uri"] in names}
    found = exact or {row["image_hash"] for row in rows if row["image_uri"].endswith(f"/{photo}")}
    if not found:
        raise InputError(f"photo {photo!r} has no label of '{store.taxonomy}', must have one: give its path or hash")
    return sorted(found)


def _name(by: str | None) -> str:
    return by or getpass.getuser()


def _source(text: str) -> Source:
    if text not in get_args(Source):
        rule = f"must be one of {', '.join(get_args(Source))}{did_you_mean(text, get_args(Source))}"
        raise ConfigurationError(f"--source == {text!r}, {rule}")
    return cast(Source, text)


def _format_of(path: Path, kind: Format, reads: bool) -> Format:
    if reads and not path.exists():
        raise ConfigurationError(f"{path} does not exist: name a folder of photos, a .csv or a .json file")
    if kind is not Format.AUTO:
        return kind
    by_suffix = {".csv": Format.CSV, ".tsv": Format.CSV, ".json": Format.LABEL_STUDIO}
    if path.suffix.lower() in by_suffix and not path.is_dir():
        return by_suffix[path.suffix.lower()]
    if reads and not path.is_dir():
        raise ConfigurationError(f"{path} is no folder, .csv or .json: say what it is with --format")
    return Format.FOLDERS
