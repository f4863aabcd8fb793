"""Histories → ranked sales with reasons and photos, by the same code for the night and for a running session."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recsys.compiled import compiled
from recsys.instants import HOUR
from recsys.meta_model import META, Cells, Features, MetaModel
from recsys.ranking.covers import Covers
from recsys.ranking.scorer import Scorer
from recsys.recommenders.base import Counted
from recsys.recommenders.content import IMAGES, ContentModel
from recsys.recommenders.own import bought_before
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories
from recsys.snapshot.format import Ranking

_SAME = np.float32(1e-4)
"""Values of a feature that differ by less are the same: its mean over the horizon is rounded."""


@dataclass(frozen=True)
class Ranker:
    """Ranks the sales of a horizon by any policy."""

    scorer: Scorer
    meta_model: MetaModel | None
    """The version that policy `meta` ranks by; None for a night without a model."""
    covers: Covers | None = None
    other_versions: Mapping[str, MetaModel] = field(default_factory=dict)
    """Further versions of the meta-model, over the same features, by the name of their policy."""

    def meta_model_of(self, policy: str) -> MetaModel | None:
        """Return the version of the meta-model that a policy ranks by; None if it ranks by a recommender."""
        return self.meta_model if policy == META else self.other_versions.get(policy)

    @cached_property
    def themes(self) -> ContentModel | None:
        """The recommender over the themes of photos; None without photos."""
        for recommender, model in zip(self.scorer.recommenders, self.scorer.models, strict=True):
            if recommender.name == IMAGES:
                assert isinstance(model, ContentModel)
                return model
        return None

    def at(self, instant: int, counted: Counted) -> "Ranker":
        """Return the ranker as of a later instant: with what all users did since the instant of the horizon."""
        return replace(self, scorer=self.scorer.at(instant, counted))

    def scored(self, histories: Histories) -> "Scored":
        """Return the scores of a block of users."""
        return Scored(self, histories)

    def shared_ranking(self, policy: str, n_sales: int) -> Ranking:
        """Return all sales of the horizon, ranked by a recommender whose scores are the same for every user.

        Args:
            policy: Name of the recommender.
            n_sales: Number of sales in the catalogue.
        """
        scored = self.scored(Histories.of_unknown_user(self.scorer.horizon.as_of, n_sales))
        best, scores = scored.best(policy)
        code = self.scorer.names.index(policy)
        return Ranking(best[0].astype(np.int32), scores[0], np.full(best.shape[1], code, np.uint8))


@dataclass(frozen=True)
class Scored:
    """A block of users' scores of all sales of the horizon; features are computed once for all methods."""

    ranker: Ranker
    histories: Histories
    _known: dict[str, NDArray[np.float32]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def features(self) -> Features:
        """The features of the meta-model, shape (n_features, n_users, n_horizon)."""
        return self.ranker.scorer.features(self.histories)

    @cached_property
    def repeat(self) -> Cells:
        """The cells of repeat purchases: rows of users and columns of sales that they bought before."""
        return bought_before(self.histories, self.ranker.scorer.horizon)

    def best(self, policy: str, top_k: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the best sales of each user and their scores: calibrated log-odds, or those of a recommender.

        Args:
            policy: Name of the policy that ranks.
            top_k: Number of sales per user; all if None or if there are fewer.

        Returns:
            Columns of the horizon, best first, and their scores, both of shape (n_users, k).
        """
        scores = self.scores(policy)
        best = top(scores, scores.shape[1] if top_k is None else top_k)
        meta_model = self.ranker.meta_model_of(policy)
        said = scores if meta_model is None else self.calibrated(meta_model, scores)
        return best, gathered(said[None], best)[0]

    def calibrated(self, meta_model: MetaModel, log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the calibrated log-odds of all sales of the horizon, shape (n_users, n_horizon), in the same order.

        A user's probabilities sum to what the model expects that a user buys on a day on which they buy.
        """
        said = meta_model.calibrated(log_odds)
        return said + meta_model.shifts(said, self.ranker.scorer.horizon.open_share)[:, None]

    def scores(self, policy: str) -> NDArray[np.float32]:
        """Return a policy's scores, shape (n_users, n_horizon): uncalibrated log-odds, or those of a recommender."""
        scores = self._known.get(policy)
        if scores is None:
            scorer, meta_model = self.ranker.scorer, self.ranker.meta_model_of(policy)
            if meta_model is None:
                scores = scorer.score(policy, self.histories)
            else:
                scores = meta_model.log_odds(self.features, self.repeat)
            self._known[policy] = scores
        return scores

    def reasons(self, policy: str, best: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return the reason of some sales of each user: the evidence that contributes most, shape (n_users, k).

        Only what raises the sale and speaks for it (`Scorer.directions`) is a reason. Where nothing does, it is OPEN.

        Args:
            policy: Name of the policy that ranks.
            best: Shape (n_users, k), columns of the horizon.

        Returns:
            Numbers in `Scorer.reasons`.
        """
        scorer, meta_model = self.ranker.scorer, self.ranker.meta_model_of(policy)
        if meta_model is not None:
            values = gathered(self.features, best)
            added = meta_model.contributions(values, self._is_repeat(best))
            why = np.empty(best.shape, np.int16)
            _write_reasons(values, added, scorer.directions, len(scorer.reasons) - 1, why)
        else:
            scores = gathered(self.scores(policy)[None], best)[0]
            why = np.where(scores > 0, scorer.names.index(policy), len(scorer.reasons) - 1).astype(np.int16)
        scorer.with_details(why, self.histories, best)
        return why

    def contributions(self, meta_model: MetaModel, best: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return each feature's contribution to the log-odds of some sales of each user, (n_features, n_users, k)."""
        return meta_model.contributions(gathered(self.features, best), self._is_repeat(best))

    def _is_repeat(self, best: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return whether each of some sales would be a repeat purchase of the user, shape (n_users, k)."""
        is_repeat = np.zeros(best.shape, bool)
        users, columns = self.repeat
        _mark_repeat(users, columns, best, is_repeat)
        return is_repeat

    def covers(self, best: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return the position of the photo of some sales to show to each user, shape (n_users, k); 0 is the cover."""
        covers, themes = self.ranker.covers, self.ranker.themes
        if covers is None or themes is None:
            return np.zeros(best.shape, np.int16)
        return covers.choose(themes.user_profiles(self.histories), best).astype(np.int16)


def youngest_first(horizon: Horizon, catalogue: Catalogue, reason: int) -> Ranking:
    """Return all sales of the horizon, the last to open first, ties by sale; a score is hours from as_of to opening.

    Args:
        horizon: The sales to rank.
        catalogue: All sales.
        reason: The reason of all of them.
    """
    hours = ((catalogue.opens_at[horizon.sales] - horizon.as_of) / HOUR).astype(np.float32)
    best = top(hours[None, :], len(horizon))[0]
    return Ranking(best.astype(np.int32), hours[best], np.full(len(best), reason, np.uint8))


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the k best scores of each row, best first, ties by column.

    Score and column are one integer, so that no two are equal and any partition gives the same answer.

    Args:
        scores: Shape (n_users, n_sales), without nan.
        k: Number of columns per row; all if there are fewer.
    """
    keys = np.empty(scores.shape, np.int64)
    _write_keys(np.ascontiguousarray(scores), keys)
    if k < scores.shape[1]:
        keys.partition(k - 1, axis=1)
    best = keys[:, :k]
    best.sort(axis=1)
    return best & 0xFFFFFFFF


def gathered(features: Features, best: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the features of some sales of each user, shape (n_features, n_users, k).

    Args:
        features: Shape (n_features, n_users, n_horizon).
        best: Shape (n_users, k), columns of the horizon.
    """
    found = np.empty((len(features), *best.shape), np.float32)
    _write_gathered(np.ascontiguousarray(features.swapaxes(0, 1)), best, found)  # a user's features are side by side
    return found


@compiled
def _write_keys(scores: NDArray[np.float32], keys: NDArray[np.int64]) -> None:
    """Write an integer for each score, the least for the best: the score above, the column in the lower 32 bits."""
    for user in range(len(scores)):
        for column in range(scores.shape[1]):
            bits = np.float32(scores[user, column] + np.float32(0)).view(np.int32)  # + 0 turns -0 into 0
            ordered = bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))  # floats as integers of the same order
            keys[user, column] = (np.int64(~ordered) << 32) | column


@compiled
def _write_gathered(by_user: NDArray[np.float32], best: NDArray[np.int64], found: NDArray[np.float32]) -> None:
    for user in range(len(best)):
        for number in range(len(found)):
            for place in range(best.shape[1]):
                found[number, user, place] = by_user[user, number, best[user, place]]


@compiled
def _mark_repeat(
    users: NDArray[np.int64], columns: NDArray[np.int64], best: NDArray[np.int64], is_repeat: NDArray[np.bool_]
) -> None:
    for cell in range(len(users)):
        for place in range(best.shape[1]):
            is_repeat[users[cell], place] |= best[users[cell], place] == columns[cell]


@compiled
def _write_reasons(
    values: NDArray[np.float32],
    added: NDArray[np.float32],
    directions: NDArray[np.float32],
    no_reason: int,
    reasons: NDArray[np.int16],
) -> None:
    """Write the number of the feature that adds most among those that speak for a sale, the first one of a tie."""
    n_features, n_users, k = values.shape
    most = np.empty(k, np.float32)
    for user in range(n_users):
        most[:] = 0
        reasons[user] = no_reason
        for number in range(n_features):
            direction = directions[number]
            for place in range(k):
                value, adds = values[number, user, place] * direction, added[number, user, place]
                if value > _SAME and adds > most[place]:
                    most[place], reasons[user, place] = adds, number
