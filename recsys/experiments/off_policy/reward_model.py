"""What a sale is expected to earn at a place, learnt from the pages of other users."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recsys.experiments.off_policy.logged_pages import CandidatePages, LoggedPages

_FOLDS = 5
_STRENGTH = 100.0
"""L2 penalty: what a sale or place earns beside the mean counts half at 100 pages, as fits rewards of some 1 %."""


def cross_fitted_rewards(
    pages: LoggedPages, candidate: CandidatePages, user: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predict rewards as a sum of an effect of the sale and one of the place, by a ridge regression on other users.

    Args:
        pages: What was shown and earned.
        candidate: What would be shown; a sale never logged is expected to earn the mean of its place.
        user: Number of the user of each page, from 0.

    Returns:
        The expected reward of each row of `pages` and of `candidate`.
    """
    from sklearn.linear_model import Ridge

    features = _one_hot(pages, candidate)
    n_shown, fold = len(pages.page), user % _FOLDS
    fold_of_row = fold[np.concatenate([pages.page, candidate.page])]
    predicted = np.full(len(fold_of_row), pages.reward.mean())
    for held_out in np.unique(fold):
        learnt = np.flatnonzero(fold_of_row[:n_shown] != held_out)
        asked = np.flatnonzero(fold_of_row == held_out)
        if len(learnt):
            model = Ridge(alpha=_STRENGTH, solver="sparse_cg").fit(features[learnt], pages.reward[learnt])
            predicted[asked] = model.predict(features[asked])
    return predicted[:n_shown], predicted[n_shown:]


def _one_hot(pages: LoggedPages, candidate: CandidatePages) -> csr_matrix:
    place = np.concatenate([pages.place, candidate.place])
    codes, sales = pd.factorize(np.concatenate([pages.sale, candidate.sale]))
    n_places = int(place.max()) + 1
    columns = np.column_stack([place, n_places + codes]).ravel()
    starts = np.arange(0, len(columns) + 1, 2)
    return csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(place), n_places + len(sales)))
