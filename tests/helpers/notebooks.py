"""Runs the code of a notebook as it is written, in this process."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def run_notebook(
    path: Path, replaced: Mapping[str, str], command: Callable[..., object] | None = None
) -> dict[str, Any]:
    """Run all code cells, and return the names that they define.

    Args:
        path: The notebook.
        replaced: Texts of the code to replace.
        command: Runs a line that begins with `!recsys`, given its arguments.
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
            command(*code.split()[1:])
        else:
            exec(compile(code, str(path), "exec"), names)
    return names


def main() -> None:
    """Run a notebook in the working folder, in a process of its own, since Spark keeps the folder that it began in.

    Arguments: the notebook, a JSON mapping of texts to replace, and an expression over its names, which is printed.
    """
    from cli.main import app

    path, replaced, wanted = sys.argv[1:]

    def command(*arguments: str) -> None:
        app(list(arguments), standalone_mode=False)

    names = run_notebook(Path(path), json.loads(replaced), command)
    print(json.dumps(eval(wanted, names)))


if __name__ == "__main__":
    main()
