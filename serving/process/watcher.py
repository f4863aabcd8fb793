"""Watches snapshots, rules and experiments; each request sees either the old state or the new one, never a mixture."""

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
    """Loads newly published snapshots; one that cannot be served is refused, and the one before stays in service.

    The previous snapshot stays open, so that a rollback takes effect at once.

    Args:
        store: The store of snapshots.
        prepare: Makes a snapshot ready to serve; raises SnapshotError to refuse it.
        put_in_force: Returns the state with the present rules and experiments.
        troubles: Receives the reasons for refused snapshots.
        loaded: Called after each new snapshot.
        refused: Called for each refused snapshot.
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
        self._refused: dict[str, tuple[object, str]] = {}
        """The refused snapshots: the state of their files, and why."""

    def served(self) -> TopSales:
        """Return the state that requests are answered from.

        Raises:
            SnapshotError: If no snapshot is loaded yet.
        """
        if self._served is None:
            raise SnapshotError(
                "no snapshot is loaded, the service needs one: publish it with 'recsys nightly', or see in the "
                "service's log why the published one was refused"
            )
        return self._served

    def serving(self) -> TopSales | None:
        """Return the state that requests are answered from; None before the first snapshot."""
        return self._served

    def poll(self) -> None:
        """Look once for changed rules and experiments and for a newly published snapshot, and swap the state."""
        if self._served is not None:
            self._served = self._put_in_force(self._served)
        if problem := self._follow_current():
            self._troubles.note(SNAPSHOT, f"{problem}; {self._describe_served()}")
        else:
            self._troubles.clear(SNAPSHOT)

    def _follow_current(self) -> str | None:
        """Serve the current snapshot, or an earlier one while none is served; return why it is not the current one."""
        try:
            name = self._store.current()
        except StoreError as error:
            return f"cannot be looked up: {error}"
        except SnapshotError as error:
            problem: str | None = f"refused: {error}"
        else:
            if name is None:
                return "none is published any more" if self._served is not None else None
            problem = self._try(name)
            if problem is None:
                self._refused.clear()
        if problem is not None and self._served is None:
            self._go_back()
        return problem

    def _go_back(self) -> None:
        """Serve the latest of the earlier snapshots that can be served."""
        try:
            next((name for name in self._store.earlier() if self._try(name) is None), None)
        except (StoreError, SnapshotError) as error:
            self._troubles.note(SNAPSHOT, f"earlier ones cannot be looked up: {error}")

    def _try(self, name: str) -> str | None:
        """Serve a snapshot; return why it cannot be served, None if it is."""
        if self._served is not None and self._served.snapshot.name == name:
            return None
        stamp = None
        try:
            # Checksums read the whole snapshot: a refused one is read again only after its files have changed.
            stamp = self._store.stamp(name)
            refused_stamp, why = self._refused.get(name, (None, ""))
            if why and refused_stamp == stamp:
                return why
            self._load(name)
        except StoreError as error:  # out of reach for a moment, which says nothing about the snapshot
            return f"cannot be looked up: {error}"
        except SnapshotError as error:
            why = f"refused: {error}"
        except Exception as error:  # a bug in one snapshot must not end the polling
            _log.exception("snapshot %s cannot be loaded", name)
            why = f"refused {name}: unexpected {type(error).__name__}"
        else:
            return None
        self._refused[name] = stamp, why
        self._count_refused()
        return why

    def _load(self, name: str) -> None:
        if self._before is not None and self._before.snapshot.name == name:
            fresh = self._put_in_force(self._before)  # it holds the rules and experiments of its time
        else:
            self._store.withdrawn()  # raises where they cannot be read: no page is sent before
            with _short_switch_interval():
                fresh = self._prepare(self._store.open(name))
        self._before = self._served
        self._served = fresh
        self._loaded()
        _log.info("serving snapshot %s", name)

    def _describe_served(self) -> str:
        return f"still serving {self._served.snapshot.name}" if self._served else "no snapshot is served"


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Switch threads ten times as often: loading a snapshot must not delay answers by the usual 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 10)  # permanently, it would cost each request 15 us
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class RulesWatcher:
    """Loads the rules that staff write; an invalid file is refused, and the rules before it stay in force.

    Args:
        path: The file of rules; None for a shop without rules.
        troubles: Receives the reasons for refused files.
    """

    def __init__(self, path: Path | None, troubles: Troubles):
        self._path = path
        self._troubles = troubles
        self._state: object = None
        self._rules: RuleSet | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the rules in force; empty where there are none."""
        return self._rules.fingerprint if self._rules else ""

    def put_in_force(self, top_sales: TopSales) -> TopSales:
        """Return the state with the rules in force; the same object where it has them already."""
        if self._rules is None or (top_sales.rules is not None and top_sales.rules.rule_set is self._rules):
            return top_sales
        compiled = PageRules(self._rules, top_sales.snapshot.sales)
        for note in compiled.notes:
            _log.info("rules: %s", note)
        return replace(top_sales, rules=compiled)

    def poll(self) -> None:
        """Look once for changed rules, and load them."""
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
            if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
                self._state = None  # the same file may be readable again: then the problem is over
            stays = f"rules {self.fingerprint} stay in force" if self._rules else "no rules are in force"
            self._troubles.note(RULES, f"refused: {error}; {stays}")
