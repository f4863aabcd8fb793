"""Answers requests for pages: choose a ranking, make the page, explain it, write it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from recsys.errors import ConfigurationError, DamagedRecordError
from recsys.experiments.settings import Experiment
from recsys.instants import to_micros
from recsys.meta_model import version_in
from recsys.rules import PageRules
from recsys.rules.settings import Rule
from recsys.snapshot.format import POPULARITY, Snapshot
from serving.answers import sentences
from serving.answers.explanation import explained
from serving.answers.mixing import overlap
from serving.answers.open_sales import OpenSales, OpenSalesFinder
from serving.answers.page_making import PageMaker
from serving.answers.page_writing import PageWriter
from serving.answers.pages import PageRequest, ServedPage
from serving.answers.ranking_choice import ChosenRanking, RankingChooser
from serving.answers.running_experiments import RunningExperiments
from serving.stores.base import WithdrawnSale

OPEN_REASON = "open"


class Answer(NamedTuple):
    """A page, as a value and as bytes."""

    page: ServedPage
    written: bytes
    """The page as a serialised `GetTopSalesResponse`."""
    failure: Exception | None = None
    """Why the page is not made from the user's ranking: DamagedRecordError, or any other exception for a bug."""


@dataclass(frozen=True)
class TopSales:
    """Everything that requests are answered from: a snapshot, what is derived from it, rules and experiments in force.

    Immutable, so that a request sees one state from start to end; a change is another value, made by
    `dataclasses.replace`. Safe for concurrent use by threads.
    """

    snapshot: Snapshot
    as_of: int
    """Microseconds since 1970 UTC."""
    sale_ids: list[str]
    """The id of each sale, in the order of the snapshot's sales."""
    model_versions: Mapping[str, str]
    """For each policy, the version of the model that it ranks by."""
    finder: OpenSalesFinder
    chooser: RankingChooser
    maker: PageMaker
    writer: PageWriter
    rules: PageRules | None = None
    """The rules, compiled for the snapshot; None for a shop without rules."""
    experiments: RunningExperiments | None = None
    """The experiments, compiled for the snapshot; None for a shop without experiments."""

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        version: Callable[[], int] = lambda: 0,
        withdrawn: Callable[[], Mapping[str, WithdrawnSale]] = dict,
    ) -> Self:
        """Prepare a snapshot, without rules and experiments.

        Args:
            snapshot: A snapshot whose files were verified.
            version: Returns a number that changes whenever `withdrawn` does.
            withdrawn: Returns the withdrawn sales by id.
        """
        reasons = (*snapshot.reasons, POPULARITY, OPEN_REASON)
        popularity_reason, open_reason = len(reasons) - 2, len(reasons) - 1
        finder = OpenSalesFinder(snapshot, open_reason, version, withdrawn)
        model_versions = {policy: version_in(policy) or snapshot.model_version for policy in snapshot.all_policies}
        return cls(
            snapshot=snapshot,
            as_of=to_micros(snapshot.as_of),
            sale_ids=[sale.sale_id for sale in snapshot.sales],
            model_versions=model_versions,
            finder=finder,
            chooser=RankingChooser(snapshot),
            maker=PageMaker(snapshot, finder, popularity_reason, open_reason),
            writer=PageWriter(snapshot, reasons, model_versions),
        )

    def open_sales(self, now: int) -> OpenSales:
        """Return the open sales at an instant."""
        return self.finder.open_at(now)

    def answer(self, request: PageRequest, now: int, request_id: str, is_urgent: bool = False) -> Answer:
        """Return the page at an instant.

        Where the user's ranking fails, because of a damaged record or a bug, the user gets the page of an unknown user.

        Args:
            request: The validated request.
            now: Microseconds since 1970 UTC.
            request_id: The id of the answer.
            is_urgent: Whether the deadline is near: then the session, which takes longest to rank, is ignored.

        Raises:
            ConfigurationError: If the snapshot has no such policy.
        """
        if request.policy not in self.model_versions:
            listed = ", ".join(sorted(self.model_versions))
            raise ConfigurationError(f"policy == {request.policy!r}, must be one of {listed}")
        open_sales = self.finder.open_at(now)
        failure: Exception
        try:
            ranking = self.chooser.choose(request, is_urgent)
            return self._answer(request, ranking, open_sales, now, request_id)
        except DamagedRecordError as error:
            failure, why_not = error, sentences.DAMAGED_RECORD
        except Exception as error:  # a bug: the recorder of the answer logs it
            failure, why_not = error, sentences.RANKING_FAILED
        return self._answer(request, ChosenRanking(why_not=why_not), open_sales, now, request_id)._replace(
            failure=failure
        )

    def _answer(
        self, request: PageRequest, ranking: ChosenRanking, open_sales: OpenSales, now: int, request_id: str
    ) -> Answer:
        page = self.maker.make(request, ranking, open_sales, self.rules, now, request_id)
        if ranking.session is not None or len(page.picks) < request.n:
            page = explained(page, request, ranking.session, sum(open_sales.is_open))
        if request.explain:
            page = page._replace(notes=[*page.notes, *self._notes_on_attributes(request)])
        if ranking.others:
            pages = (
                self.maker.make(request.of_side(side), ChosenRanking(picks), open_sales, self.rules, now, request_id)
                for side, picks in zip(request.other_sides, ranking.others, strict=True)
            )
            page = page._replace(overlap_at_10=min(overlap(page.picks, other.picks) for other in pages))
        return Answer(page, self.writer.write(page, page.assignment(request), now, request_id))

    def _notes_on_attributes(self, request: PageRequest) -> Iterator[str]:
        """Yield a sentence for each attribute of a request that nothing asks for: it may be mistyped."""
        used = set(self.snapshot.segments)
        used = used.union(*(each.targeting.names for each in self._rules_and_experiments if each.targeting))
        yield from (sentences.unused_attribute(name, used) for name in request.attributes if name not in used)

    @property
    def _rules_and_experiments(self) -> Iterator[Rule | Experiment]:
        yield from self.rules.rule_set.rules if self.rules else ()
        yield from self.experiments.experiments if self.experiments else ()
