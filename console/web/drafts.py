"""Files that people edit in the console: checked while they are only drafts, and replaced whole."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from recsys.errors import ConfigurationError
from recsys.storage.local import held
from recsys.storage.places import put

MOST_CHARACTERS = 1 << 18

_Content = TypeVar("_Content")


def checked(text: str, name: str, load: Callable[[Path], _Content]) -> _Content:
    """Return what a text holds, as if it were a file.

    Args:
        text: The draft.
        name: Name of the file that it is to replace.
        load: Reads such a file.

    Raises:
        ConfigurationError: If it breaks a rule; names each problem, and the file by its name.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(text.encode())
        try:
            return load(path)
        except ConfigurationError as error:
            raise ConfigurationError(str(error).replace(str(path), name)) from None


def text_of(path: Path) -> str:
    """Return the content of a file; empty if it does not exist yet.

    Raises:
        ConfigurationError: If it is no text.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}): it must be a text in UTF-8") from None


def version_of(text: str) -> str:
    """Return the version of a text that somebody begins to edit."""
    return hashlib.sha256(text.encode()).hexdigest()


def replace(path: Path, text: str, version: str, lock: Path) -> None:
    """Replace a file by a text that was edited.

    Args:
        path: The file.
        text: The text.
        version: Of the text that the editor began with.
        lock: Folder of this machine's disk that whoever edits this file locks.

    Raises:
        ConfigurationError: If the file is not of that version any more.
    """
    with held(lock):
        if version_of(text_of(path)) != version:
            raise ConfigurationError(
                f"{path.name} was changed by somebody else since you opened it: copy your text, open the page again, "
                "and merge the two"
            )
        put(path, text)


def unix_lines(text: str) -> str:
    """Return a text as files have it: browsers send lines that end as on Windows."""
    text = text.replace("\r\n", "\n")
    return text if text.endswith("\n") else text + "\n"
