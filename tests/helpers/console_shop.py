"""A small shop with a service and a console, for tests of the console's pages."""

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Self

from fastapi.testclient import TestClient

from console.shop_console import console_app
from recsys.config.serving import ServingSettings
from recsys.config.settings import Settings
from recsys.snapshot import store
from recsys.testing.shops import AS_OF
from serving.process.server import Server, start_server
from tests.helpers.ranked_shop import RankedShop
from tests.helpers.small_photos import write_photo

HERE = "http://127.0.0.1:8000"
NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
HOUR = 3_600_000_000


@dataclass
class ConsoleShop(AbstractContextManager["ConsoleShop"]):
    """A shop whose snapshot is served, one hour after it was made."""

    folder: Path
    night: RankedShop
    changes: dict[str, Any] = field(default_factory=dict)
    """Keys of the configuration that differ."""
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def made(cls, folder: Path, **changes: Any) -> Self:
        """Publish a snapshot, with photos, in a new folder."""
        night = RankedShop.made(folder / "ranker")
        store.publish(folder / "snapshots", night.write(folder / "snapshots"), NOW)
        for number, uri in enumerate(sorted({uri for sale in night.sales for uri in sale.images})):
            write_photo(folder / uri, (7 * number % 255, 90, 200), 40)
        return cls(folder, night, changes)

    def serve(self, **serving: Any) -> Server:
        """Start the service in this process, with some of its settings changed; the console has them too."""
        self.changes["serving"] = serving
        chosen = {**serving, "port": 0, "admin_port": 0, "metrics_port": None, "workers": 1, "poll_seconds": 0.01}
        exposures = {"flush_seconds": 0.01}
        settings = ServingSettings.model_validate({**chosen, "exposures": exposures})
        self.server = self._stack.enter_context(start_server(settings, self.folder, lambda: AS_OF + HOUR))
        return self.server

    def settings(self, server: Server | None = None, **console: Any) -> Settings:
        """Return the shop's settings, whose console asks a service, or one that does not answer."""
        target, admin = (server.target, server.admin_target) if server else ("127.0.0.1:1", "127.0.0.1:1")
        values = {
            "folder": str(self.folder),
            "source": {"sql": "conf/sources/demo", "raw": {}},
            "images": {"root": str(self.folder)},
            "console": {"service": target, "admin_service": admin, **console},
            **self.changes,
        }
        return Settings.model_validate(values)

    def console(self, server: Server | None = None, **console: Any) -> TestClient:
        """Return a browser's view of the console; its clock goes on by a second each time that it is read."""
        seconds = count()
        app = console_app(
            self.settings(server, **console), ["127.0.0.1"], "cookie", lambda: NOW + timedelta(seconds=next(seconds))
        )
        return TestClient(app, HERE, headers={"origin": HERE})

    def __exit__(self, *_: object) -> None:
        self._stack.close()
