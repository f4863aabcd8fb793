"""The sentences of reasons for the website's visitors, in several languages and in the words of a shop."""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from recsys.config import strict_yaml
from recsys.config.serving import PageSettings
from recsys.errors import ConfigurationError
from recsys.settings import StepSettings
from recsys.snapshot.format import Snapshot
from recsys.wording import did_you_mean, listed, nearest

DETAIL = "detail"
"""The key, beside the kinds of evidence, of the sentence for a reason that names {detail}, such as a theme."""
OTHER = "other"
"""That of the sentence for evidence that has none of its own."""
_AND, _USUAL_PRICE = "and", "usual_price"
_OF_ATTRIBUTES = ("content_metadata", "taste_metadata")
_MOST_ATTRIBUTES = 3
_FALLBACK = "en"

Wording = Mapping[str, str]
"""Sentences by kind of evidence, and those by DETAIL, OTHER and the like."""


class _File(StepSettings):
    """The content of a file of sentences."""

    sentences: dict[str, str]
    without_visits: dict[str, str] = {}


class Languages:
    """The sentences of all languages, as the settings of pages have them.

    A file of the shop's own replaces single sentences of a language, or adds a language, whose other sentences are
    English then.

    Args:
        settings: Language, files and sentences of the shop.

    Raises:
        ConfigurationError: If a file cannot be read, or breaks a rule, or there is none of the language.
    """

    def __init__(self, settings: PageSettings):
        self.default = settings.language
        come_along = _come_along()
        own = _read_own(settings.wording) if settings.wording else {}
        self._files = {
            language: _joined(come_along.get(language, come_along[_FALLBACK]), own.get(language, _File(sentences={})))
            for language in sorted({*come_along, *own})
        }
        if self.default not in self._files:
            known = ", ".join(self._files)
            raise ConfigurationError(f"serving.pages.language == {self.default!r}, must be one of {known}")
        changed = _File(sentences=settings.reason_texts, without_visits=settings.reason_texts)
        self._files[self.default] = _joined(self._files[self.default], changed)

    @property
    def names(self) -> list[str]:
        """The languages, such as `en`."""
        return list(self._files)

    def wording(self, language: str, has_visits: bool) -> Wording:
        """Return the sentences of a language, for a shop with visits or one that reports purchases only."""
        file = self._files[language]
        return file.sentences if has_visits else {**file.sentences, **file.without_visits}

    def chosen(self, language: str) -> str:
        """Return the language to answer in: the one asked for, the same without its region, or the default."""
        asked = language.lower().replace("_", "-")
        return next((each for each in (asked, asked.partition("-")[0]) if each in self._files), self.default)


class ReasonTexts:
    """The sentences for reasons, in one language and in the words of one shop.

    Args:
        snapshot: Its sales, whose attributes are named.
        wording: The sentences.
    """

    def __init__(self, snapshot: Snapshot, wording: Wording):
        counts = Counter(name for sale in snapshot.sales for name, value in sale.attributes.items() if value)
        # The most frequent ones; a sentence that lists more is not read.
        names = [name.replace("_", " ") for name, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
        self._attributes = listed(names[:_MOST_ATTRIBUTES], wording[_AND])
        self._wording = wording if names else {**wording, **dict.fromkeys(_OF_ATTRIBUTES, wording[_USUAL_PRICE])}

    def reason(self, name: str) -> tuple[str, str]:
        """Split a reason, such as `popularity` or `content_images/pool`, into the kind of evidence and its sentence."""
        kind, _, detail = name.partition("/")
        text = self._wording[DETAIL] if detail else self._wording.get(kind, self._wording[OTHER])
        return kind, text.replace("{attributes}", self._attributes).replace("{detail}", detail)


@lru_cache
def _come_along() -> dict[str, _File]:
    """Return the files of this package by language."""
    return {path.stem: _read(path) for path in sorted((Path(__file__).parent / "wording").glob("*.yaml"))}


def _read_own(folder: str) -> dict[str, _File]:
    """Return the files of a shop by language; kinds of evidence may be the shop's own, but not mistyped."""
    files = {path.stem.lower(): path for path in sorted(Path(folder).glob("*.yaml"))}
    if not files:
        raise ConfigurationError(
            f"serving.pages.wording == {folder!r} has no file of sentences: must hold one per language, such as fr.yaml"
        )
    found, known = {language: _read(path) for language, path in files.items()}, _come_along()[_FALLBACK].sentences
    for language, file in found.items():
        for key in sorted({*file.sentences, *file.without_visits} - known.keys()):
            if nearest(key, known):
                raise ConfigurationError(f"{files[language]}: {key} is no kind of evidence{did_you_mean(key, known)}")
    return found


def _read(path: Path) -> _File:
    content = strict_yaml.read(path, "serving/answers/wording/en.yaml")
    without_visits = content.pop("without_visits", {})
    try:
        return _File(sentences=content, without_visits=without_visits)
    except ValidationError as error:
        raise strict_yaml.wrong(path, strict_yaml.problems(error)) from error


def _joined(file: _File, changes: _File) -> _File:
    """Return the sentences of a file with some replaced; those that a shop changes hold without visits too."""
    return _File(
        sentences={**file.sentences, **changes.sentences},
        without_visits={**file.without_visits, **changes.sentences, **changes.without_visits},
    )
