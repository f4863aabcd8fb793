"""The words of a text; pairs of characters in scripts that are written without blanks."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar, Khmer, Tai
    "\u3005-\u3007\u3041-\u30ff\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff"  # Hiragana, Katakana, Bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_INDIC = "\u0900-\u0dff"  # Devanagari to Sinhala: words between blanks, with vowel signs that are no letters
_OTHER_SCRIPTS = re.compile(f"[{_UNSPACED}{_INDIC}\uff66-\uff9f]")
_RUNS = re.compile(
    f"(?P<unspaced>[{_UNSPACED}]+)|(?P<indic>[{_INDIC}\u200c\u200d]+)|[^{_UNSPACED}{_INDIC}\u200c\u200d]+"
)
_JOINERS = str.maketrans("", "", "\u200c\u200d")
_WORD = re.compile(r"\b\w\w+\b")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case and without accents, each of at least two letters or digits.

    Scripts without blanks between words, such as Chinese, Japanese and Thai, give overlapping pairs of characters
    instead, a vowel or tone sign being part of its character. Words of Indian scripts keep their vowel signs, which
    distinguish words as accents hardly do.

    Source:
        Pairs: Nie & Ren 1999, which finds them as good as a dictionary for retrieval in Chinese.
    """
    text = text.lower()
    if not _OTHER_SCRIPTS.search(text):
        return _WORD.findall(_without_accents(text))
    found: list[str] = []
    for run in _RUNS.finditer(unicodedata.normalize("NFKC", text)):
        if run["unspaced"]:
            found += _pairs(run["unspaced"])
        elif run["indic"]:
            found += _words_with_marks(run["indic"].translate(_JOINERS))
        else:
            found += _WORD.findall(_without_accents(run[0]))
    return found


def _without_accents(text: str) -> str:
    """Return the text without combining marks, as scikit-learn's `strip_accents_unicode` does."""
    if text.isascii():
        return text
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))


def _words_with_marks(text: str) -> Iterator[str]:
    """Yield the words of a text of an Indian script, each of at least two code points."""
    letters = "".join(each if each.isalnum() or _is_mark(each) else " " for each in text)
    return (word for word in letters.split() if len(word) > 1)


def _pairs(text: str) -> list[str]:
    """Return the overlapping pairs of neighbouring characters; a character alone is returned as it is."""
    found, characters = [], [""]
    for each in text:
        if _is_mark(each) and characters[-1]:
            characters[-1] += each
        elif each.isalnum():
            characters.append(each)
        else:  # punctuation
            found += _joined_pairs(characters[1:])
            characters = [""]
    return found + _joined_pairs(characters[1:])


def _joined_pairs(characters: list[str]) -> list[str]:
    if len(characters) == 1:
        return characters
    return [first + second for first, second in pairwise(characters)]


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")
