"""Answers requests for pages: choose a ranking, make the page, explain it, write it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

from recsys.config.serving import PageSettings
from recsys.errors import ConfigurationError, DamagedRecordError
from recsys.experiments.settings import Experiment
from recsys.instants import to_micros
from recsys.meta_model import version_in
from recsys.rules import PageRules
from recsys.rules.settings import Rule
from recsys.shop.live_counts import LiveCounts
from recsys.snapshot.format import OPEN, POPULARITY, Snapshot
from serving.answers import sentences
from serving.answers.explanation import explained
from serving.answers.mixing import overlap
from serving.answers.open_sales import OpenSales, OpenSalesFinder
from serving.answers.page_making import PageMaker
from serving.answers.page_writing import PageWriter
from serving.answers.pages import HOME, PageRequest, ServedPage
from serving.answers.ranking_choice import ChosenRanking, RankingChooser
from serving.answers.running_experiments import RunningExperiments
from serving.stores.base import WithdrawnSale


class Answer(NamedTuple):
    """A page, as a value and as bytes."""

    page: ServedPage
    written: bytes
    """The page as a serialised `GetTopSalesResponse`."""
    until: int
    """The instant at which the next sale opens or closes, in microseconds since 1970 UTC."""
    failure: Exception | None = None
    """Why the page is not made from the user's whole ranking: DamagedRecordError, or any other exception for a bug."""


@dataclass(frozen=True)
class TopSales:
    """Everything that requests are answered from: a snapshot, what is derived from it, rules and experiments in force.

    Immutable, so that a request sees one state from start to end; a change is another value, made by
    `dataclasses.replace`. Safe for concurrent use by threads.
    """

    snapshot: Snapshot
    as_of: int
    """Microseconds since 1970 UTC."""
    horizon_end: int
    """The instant from which, included, the snapshot may lack open sales, in microseconds since 1970 UTC."""
    sale_ids: list[str]
    """The id of each sale, in the order of the snapshot's sales."""
    known_sales: frozenset[str] | None
    """The ids of all sales that the night knew, open or not; None for a snapshot that does not say."""
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
        settings: PageSettings | None = None,
        counts: Callable[[], LiveCounts] | None = None,
        is_live: bool = True,
    ) -> Self:
        """Prepare a snapshot, without rules and experiments.

        Args:
            snapshot: A snapshot whose files were verified.
            version: Returns a number that changes whenever `withdrawn` does.
            withdrawn: Returns the withdrawn sales by id.
            settings: What every page says and leaves out; the defaults if None.
            counts: Returns the latest counts of what all users do; None ranks every page as of the night.
            is_live: Whether pages are ranked as of the present whose experiment does not say.
        """
        settings = settings or PageSettings()
        reasons = (*snapshot.reasons, POPULARITY, OPEN)
        popularity_reason, open_reason = len(reasons) - 2, len(reasons) - 1
        chooser = RankingChooser(snapshot, settings.just_bought_hours, counts, is_live)
        finder = OpenSalesFinder(snapshot, open_reason, version, withdrawn, chooser.popular)
        model_versions = {policy: version_in(policy) or snapshot.model_version for policy in snapshot.answered_policies}
        return cls(
            snapshot=snapshot,
            as_of=to_micros(snapshot.as_of),
            horizon_end=to_micros(snapshot.horizon_end),
            sale_ids=[sale.sale_id for sale in snapshot.sales],
            known_sales=chooser.known_sales,
            model_versions=model_versions,
            finder=finder,
            chooser=chooser,
            maker=PageMaker(snapshot, finder, popularity_reason, open_reason),
            writer=PageWriter(snapshot, reasons, model_versions, settings),
        )

    def open_sales(self, now: int) -> OpenSales:
        """Return the open sales at an instant."""
        return self.finder.open_at(now)

    def answer(
        self, request: PageRequest, now: int, request_id: str, is_urgent: Callable[[], bool] = lambda: False
    ) -> Answer:
        """Return the page at an instant.

        Where the user's ranking fails, because of a damaged record or a bug, the user gets the page of an unknown user.

        Args:
            request: The validated request.
            now: The instant that the page is for, in microseconds since 1970 UTC.
            request_id: The id of the answer.
            is_urgent: Returns whether the deadline is near: then nothing is ranked for this request, which takes
                longest. Called only where something might be.

        Raises:
            ConfigurationError: If the snapshot has no such policy, or no sale has an attribute that is filtered by.
        """
        self.maker.check_filters(request.filters)
        if request.policy not in self.model_versions:
            listed = ", ".join(sorted(self.model_versions))
            raise ConfigurationError(f"policy == {request.policy!r}, must be one of {listed}")
        open_sales = self.finder.open_at(now, request.is_live)
        failure: Exception
        try:
            ranking = self.chooser.choose(request, now, is_urgent)
            return self._answer(request, ranking, open_sales, now, request_id, is_urgent)
        except DamagedRecordError as error:
            failure, why_not = error, sentences.DAMAGED_RECORD
        except Exception as error:  # a bug: the recorder of the answer logs it
            failure, why_not = error, sentences.RANKING_FAILED
        unranked = ChosenRanking(why_not=why_not)
        return self._answer(request, unranked, open_sales, now, request_id, is_urgent)._replace(failure=failure)

    def _answer(
        self,
        request: PageRequest,
        ranking: ChosenRanking,
        open_sales: OpenSales,
        now: int,
        request_id: str,
        is_urgent: Callable[[], bool],
    ) -> Answer:
        failure = None
        pages = self._pages(request, ranking, open_sales, now, request_id)
        if any(page.exceeds_ranking for page in pages) and not is_urgent():
            try:
                if (longer := self.chooser.anew(request, ranking, now)) is not None:
                    pages, ranking = self._pages(request, longer, open_sales, now, request_id), longer
            except Exception as error:  # the page of the ranking that the night kept stands
                failure = error
        page, *others = pages
        if request.surface != HOME and (note := self._note_of_surface(request.surface)):
            page = page._replace(notes=[*page.notes, note])
        scores = ranking.session
        if request.explain and failure is None and not is_urgent():
            scores = self.chooser.scores(request, ranking, now)
        if scores is not None or len(page.picks) < request.n:
            page = explained(page, request, scores, sum(open_sales.is_open))
        if request.explain:
            page = page._replace(
                notes=[*page.notes, *self._notes_on_attributes(request), *self._notes_on_session(request)]
            )
        if others:
            page = page._replace(overlap_at_10=min(overlap(page.picks, other.picks) for other in others))
        written = self.writer.write(page, page.assignment(request), now, request_id, request.language)
        return Answer(page, written, open_sales.until, failure)

    def _note_of_surface(self, surface: str) -> str:
        """Return a sentence if rules and experiments know the surface by another spelling only; else an empty text."""
        known = {
            HOME,
            *(self.rules.surfaces if self.rules else ()),
            *(self.experiments.fingerprints if self.experiments else ()),
        }
        return "" if surface in known else sentences.unknown_surface(surface, tuple(sorted(known)))

    def _pages(
        self, request: PageRequest, ranking: ChosenRanking, open_sales: OpenSales, now: int, request_id: str
    ) -> list[ServedPage]:
        """Return the requested page, and those of the variants that it is compared with."""
        made = [self.maker.make(request, ranking, open_sales, self.rules, now, request_id)]
        for side, picks in zip(request.other_sides, ranking.others, strict=False):
            other, alone = request.of_side(side), ChosenRanking(picks, bought=ranking.bought)
            open_to_other = self.finder.open_at(now, side.is_live)
            made.append(self.maker.make(other, alone, open_to_other, self.rules, now, request_id))
        return made

    def _notes_on_attributes(self, request: PageRequest) -> Iterator[str]:
        """Yield a sentence for each attribute of a request that nothing asks for: it may be mistyped."""
        used = set(self.snapshot.segments)
        used = used.union(*(each.targeting.names for each in self._rules_and_experiments if each.targeting))
        yield from (sentences.unused_attribute(name, used) for name in request.attributes if name not in used)

    def _notes_on_session(self, request: PageRequest) -> Iterator[str]:
        """Yield a sentence about the sales of the session that the snapshot does not know: they may be mistyped."""
        if self.known_sales is not None:
            unknown = [visit.sale_id for visit in request.session if visit.sale_id not in self.known_sales]
            yield from [sentences.unknown_in_session(unknown)] if unknown else ()

    @property
    def _rules_and_experiments(self) -> Iterator[Rule | Experiment]:
        yield from self.rules.rule_set.rules if self.rules else ()
        yield from self.experiments.experiments if self.experiments else ()
