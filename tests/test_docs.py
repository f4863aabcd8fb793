"""The documentation: links lead somewhere, and the site has every page."""

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from cli.main import app
from tests.helpers.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:`|^ {4,})(recsys [a-z][^`\n]*)", re.MULTILINE)
COMMANDS = typer.main.get_command(app)
KEY = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)(?:: [^`]*)?`")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_site_has_every_page_and_no_other():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"\w+\.md", str(nav))
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_what_pages_take_from_files_is_there():
    named = [name for page in PAGES for name in re.findall(r'--8<-- "([^"]+)"', page.read_text())]
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_objects_of_the_python_reference_exist():
    for name in re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        found = __import__(module, fromlist=[attribute])
        assert getattr(found, attribute).__doc__, name


def unknown_part(words: list[str]) -> str | None:
    """Return the first word of a command line that is no command or option; None if it can be given like this."""
    command = COMMANDS
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return words[0]
        command, words = command.commands[words[0]], words[1:]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return next((word for word in words if word.startswith("--") and word not in {*known, "--help"}), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_pages_can_be_given(page):
    for line in COMMAND.findall(page.read_text()):
        if not (line := re.split(r"\s{3,}| # ", line)[0].replace("…", "").rstrip("\\ ")).startswith("recsys COMMAND"):
            assert unknown_part(shlex.split(line)[1:]) is None, line


def test_unknown_command_or_option_is_found():
    assert unknown_part(["sales", "close", "s-1", "--yes"]) is None
    assert unknown_part(["sales", "shut", "s-1"]) == "shut"
    assert unknown_part(["top", "u-1", "--sessions", "s-1"]) == "--sessions"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_keys_of_the_configuration_on_pages_exist(page):
    keys = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)
    parts = [re.sub(r"\[\]|\.NAME", "", key).split(".") for key in keys]
    known = {".".join(part[i:j]) for part in parts for i in range(len(part)) for j in range(i + 1, len(part) + 1)}
    sections = {part[0] for part in parts}
    named = [key for key in KEY.findall(page.read_text()) if key.partition(".")[0] in sections - {"spark", "mlflow"}]
    assert [key for key in named if key not in known] == []
