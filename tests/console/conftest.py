"""A shop whose console is tested."""

from collections.abc import Iterator

import pytest

from tests.helpers.console_shop import ConsoleShop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleShop]:
    """A shop with a published snapshot, and a running service."""
    with ConsoleShop.made(tmp_path_factory.mktemp("shop")) as made:
        made.serve()
        yield made
