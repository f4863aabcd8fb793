"""Print requirements with the hash of every package that pip would install, for `pip install --require-hashes`.

python deploy/lock.py --constraint constraints.txt --requirement deploy/requirements.txt > deploy/requirements.lock

The hashes are those of the files for this system and this version of Python. The project itself is left out: install
it with --no-deps afterwards. Takes the arguments of `pip install`.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory


def locked(report: dict) -> list[str]:
    """Return one requirement per package of a report of pip (its format 1), by name.

    Raises:
        SystemExit: If a package has no hash, because it is not a file of an index.
    """
    lines = []
    for each in report["install"]:
        name, version = each["metadata"]["name"], each["metadata"]["version"]
        download = each["download_info"]
        if "dir_info" in download:
            continue  # the project itself
        hashes = download.get("archive_info", {}).get("hashes", {})
        if "sha256" not in hashes:
            sys.exit(f"error: {name} {version} at {download['url']} has no SHA-256: install it from an index")
        lines.append(f"{name}=={version} --hash=sha256:{hashes['sha256']}")
    return sorted(lines, key=str.lower)


def main() -> None:
    """Ask pip what it would install, and print it."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        done = subprocess.run([sys.executable, "-m", "pip", "install", *options, *sys.argv[1:]], check=False)
        if done.returncode:
            sys.exit(done.returncode)
        print("\n".join(locked(json.loads(report.read_text()))))


if __name__ == "__main__":
    main()
