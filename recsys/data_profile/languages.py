"""The language of titles, by the little words that are frequent in it."""

import re
from collections import Counter
from collections.abc import Iterable

NAMES = {
    "en": "English",
    "fr": "French",
    "de": "German",
    "es": "Spanish",
    "it": "Italian",
    "nl": "Dutch",
    "pt": "Portuguese",
}
_STOP_WORDS = {
    "en": "the of and with in for a to from at on your by",
    "fr": "le la les de des du et avec en pour un une dans au aux sur à",
    "de": "der die das und mit von in für ein eine im am zu bei den",
    "es": "el la los las de del y con en para un una por al",
    "it": "il la le di del della e con in per un una da al dei",
    "nl": "de het een van en met in voor op te aan bij",
    "pt": "o a os as de do da dos das e com em para um uma no na",
}
_LANGUAGES = {
    word: [code for code, words in _STOP_WORDS.items() if word in words.split()]
    for word in " ".join(_STOP_WORDS.values()).split()
}
_FEWEST_WORDS = 20
_TIMES_THE_SECOND = 1.5
_WORD = re.compile(r"[^\W\d_]+")


def language_of(titles: Iterable[str]) -> str | None:
    """Return the code of the language that most titles are in, a key of NAMES; None where their words do not tell."""
    counts: Counter[str] = Counter()
    for title in titles:
        for word in _WORD.findall(title.lower()):
            counts.update(_LANGUAGES.get(word, ()))
    (first, most), (_, second) = [*counts.most_common(2), ("", 0), ("", 0)][:2]
    return first if most >= max(_FEWEST_WORDS, _TIMES_THE_SECOND * second) else None
