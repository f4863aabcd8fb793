"""Follows what is published: requests see the old snapshot, rules and experiments, or the new ones, never a mixture."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from recsys.errors import ConfigurationError, SnapshotError, StoreError
from recsys.rules import PageRules, RuleSet, load_rules
from recsys.snapshot.format import Snapshot
from serving.answers.top_sales import TopSales
from serving.stores.base import Store
from serving.telemetry.troubles import Troubles

SNAPSHOT = "snapshot"
RULES = "rules"

_log = logging.getLogger(__name__)


class SnapshotWatcher:
    """Loads what is published; a snapshot that cannot be served is refused, and the one before it stays.

    The snapshot served before stays open, so that a rollback takes no time.

    Args:
        store: Where snapshots are.
        prepare: Makes a snapshot ready to serve; raises SnapshotError to refuse it.
        put_in_force: Returns what answers with the rules and experiments that are in force now.
        troubles: Told of what is refused.
        loaded: Called after each new snapshot.
        refused: Called for each snapshot that cannot be served.
    """

    def __init__(
        self,
        store: Store,
        prepare: Callable[[Snapshot], TopSales],
        put_in_force: Callable[[TopSales], TopSales],
        troubles: Troubles,
        loaded: Callable[[], object],
        refused: Callable[[], object] = lambda: None,
    ):
        self._store = store
        self._prepare = prepare
        self._put_in_force = put_in_force
        self._troubles = troubles
        self._loaded = loaded
        self._count_refused = refused
        self._served: TopSales | None = None
        self._before: TopSales | None = None
        self._refused: object = None

    def served(self) -> TopSales:
        """Return what answers requests now.

        Raises:
            SnapshotError: If no snapshot is loaded yet.
        """
        if self._served is None:
            raise SnapshotError(
                "no snapshot is loaded, the service needs one: publish it with 'recsys nightly', or see in "
                "the service's log why the published one was refused"
            )
        return self._served

    def serving(self) -> TopSales | None:
        """Return what answers requests now; None while nothing does."""
        return self._served

    def poll(self) -> None:
        """Look once for changed rules and experiments, and for a newly published snapshot, and swap what answers."""
        if self._served is not None:
            self._served = self._put_in_force(self._served)
        name = None
        try:
            name = self._store.current()
            if name is not None and (self._served is None or self._served.snapshot.name != name):
                self._load(name)
            elif name is not None:
                self._refused = None
                self._troubles.clear(SNAPSHOT)
        except StoreError as error:
            self._troubles.note(SNAPSHOT, f"not looked for: {error}; {self._meanwhile()}")
        except SnapshotError as error:
            self._refuse(f"refused: {error}")
        except Exception as error:  # a bug in one snapshot must not end the watch
            _log.exception("snapshot %s", name)
            self._refuse(f"refused {name}: unexpected {type(error).__name__}")

    def _refuse(self, why: str) -> None:
        self._troubles.note(SNAPSHOT, f"{why}; {self._meanwhile()}")
        self._count_refused()

    def _load(self, name: str) -> None:
        # Checksums read all of a snapshot: a refused one is read again only when its files have changed.
        stamp = self._store.stamp(name)
        if stamp == self._refused:
            return
        if self._before is not None and self._before.snapshot.name == name:
            fresh = self._put_in_force(self._before)  # it has those of its time
        else:
            self._refused = stamp
            with _giving_way():
                fresh = self._prepare(self._opened(name))
        self._before = self._served
        self._served = fresh
        self._refused = None
        self._troubles.clear(SNAPSHOT)
        self._loaded()
        _log.info("serving snapshot %s", name)

    def _opened(self, name: str) -> Snapshot:
        try:
            return self._store.open(name)
        except StoreError:  # out of reach for a moment: that says nothing of the snapshot
            self._refused = None
            raise

    def _meanwhile(self) -> str:
        return f"still serving {self._served.snapshot.name}" if self._served else "no snapshot is served"


@contextmanager
def _giving_way() -> Iterator[None]:
    """Let other threads have the interpreter ten times as often: a load must not hold up an answer for 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 10)  # always, it would cost each request 15 us
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class RulesWatcher:
    """Loads the rules that staff write; a file that breaks a rule is refused, and the rules before it stay.

    Args:
        path: The file; None for a shop without rules.
        troubles: Told of what is refused.
    """

    def __init__(self, path: Path | None, troubles: Troubles):
        self._path = path
        self._troubles = troubles
        self._state: object = None
        self._rules: RuleSet | None = None

    @property
    def fingerprint(self) -> str:
        """Of the rules in force; empty where there are none."""
        return self._rules.fingerprint if self._rules else ""

    def put_in_force(self, top_sales: TopSales) -> TopSales:
        """Return what answers with the rules in force; the same where it has them already."""
        if self._rules is None or (top_sales.rules is not None and top_sales.rules.rule_set is self._rules):
            return top_sales
        compiled = PageRules(self._rules, top_sales.snapshot.sales)
        for note in compiled.notes:
            _log.info("rules: %s", note)
        return replace(top_sales, rules=compiled)

    def poll(self) -> None:
        """Look once for changed rules."""
        path = self._path
        if path is None:
            return
        try:
            stat = path.stat()
            state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if state == self._state:
                return
            self._state = state
            self._rules = load_rules(path)
            self._troubles.clear(RULES)
            _log.info("rules %s of %s are in force", self._rules.fingerprint, path)
        except (ConfigurationError, OSError) as error:
            stays = f"rules {self.fingerprint} stay in force" if self._rules else "no rules are in force"
            self._troubles.note(RULES, f"refused: {error}; {stays}")
