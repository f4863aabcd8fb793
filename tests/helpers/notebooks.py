"""Runs the code of a notebook as it is written, in this process."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def run_notebook(
    path: Path, replaced: Mapping[str, str], command: Callable[..., tuple[int, str, str]] | None = None
) -> dict[str, Any]:
    """Run all code cells, and return the names that they define.

    Args:
        path: The notebook.
        replaced: Texts of the code to replace.
        command: Runs a line that begins with `!recsys`, given its arguments; returns status, stdout and stderr.
    """
    names: dict[str, Any] = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        code = "".join(cell["source"])
        for text, by in replaced.items():
            code = code.replace(text, by)
        if code.startswith("!recsys "):
            assert command is not None
            status, out, err = command(*code.split()[1:])
            assert status == 0, out + err
        else:
            exec(compile(code, str(path), "exec"), names)
    return names
