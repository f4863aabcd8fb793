"""A shop whose console is tested."""

import shutil
from collections.abc import Iterator

import pytest

from tests.helpers.console_shop import ConsoleShop
from tests.helpers.paths import ROOT


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleShop]:
    """A shop with a published snapshot, and a running service that goes by the project's rules and experiments."""
    with ConsoleShop.made(tmp_path_factory.mktemp("shop")) as made:
        conf = made.folder / "conf"
        shutil.copytree(ROOT / "conf" / "experiments", conf / "experiments")
        shutil.copytree(ROOT / "conf" / "rules", conf / "rules")
        made.serve(rules=str(conf / "rules" / "home.yaml"), experiments=str(conf / "experiments"))
        yield made
