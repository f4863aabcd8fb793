"""Training and evaluation of the meta-model on examples."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from recsys.errors import EmptyInputError
from recsys.meta_model.base import MetaModel, MetaModelSettings, probability
from recsys.meta_model.basket import Basket, fit_basket, shifts_of_examples
from recsys.meta_model.boosted import BoostedModel
from recsys.meta_model.calibration import WIDEST, fit_calibration
from recsys.meta_model.conditional import as_log_odds, fit_coefficients
from recsys.meta_model.logistic import LogisticModel, Weights
from recsys.wording import plural

KNOTS = (0.5, 0.8, 0.95)
"""The shares of the examples below the values at which the coefficient of a feature may change."""
ROUNDS = 10
"""The most times that curve and basket are fitted in turn."""
SETTLED = 0.02
"""The largest change of a slope of the curve after which they are not fitted again."""
FIRST_POSITION = [1.0, 1.0, 1.0]
"""`Examples.positions` of a sale at position 1 of a page. Trees, which learn interactions of position and features, are
evaluated at this position."""


@dataclass(frozen=True)
class Examples:
    """Rows of table `training_examples`."""

    names: list[str]
    features: NDArray[np.float32]  # (n_examples, n_features)
    bought: NDArray[np.bool_]
    sampling_rate: NDArray[np.float64]  # in (0, 1]: share of the user's sales of that kind and day that are examples
    repeat: NDArray[np.bool_]  # whether the user had bought the sale before: a repeat purchase
    position: NDArray[
        np.int32
    ]  # position on a page of that day, from 1; 0 if no page had the sale, -1 without any page
    page: NDArray[np.int64] | None = None  # number of the user and day, from 0; None if it is not known

    def without(self, name: str) -> "Examples":
        """Return the examples without one feature."""
        return self.over([other for other in self.names if other != name])

    def over(self, names: list[str]) -> "Examples":
        """Return the examples with these features only."""
        columns = [self.names.index(name) for name in names]
        return replace(self, names=names, features=self.features[:, columns])

    def where(self, chosen: NDArray[np.bool_]) -> "Examples":
        """Return the chosen examples; `chosen` has shape (n_examples,)."""
        return Examples(
            self.names,
            self.features[chosen],
            self.bought[chosen],
            self.sampling_rate[chosen],
            self.repeat[chosen],
            self.position[chosen],
            None if self.page is None else self.page[chosen],
        )

    @property
    def position_features(self) -> NDArray[np.float64]:
        """Position features: whether a page showed the sale, 1 / log2(1 + position), whether the user had a page.

        The last one distinguishes a sale that was not shown from one of a day without a logged page, on which the user
        may have seen it.

        Returns:
            Shape (n_examples, 3); (n_examples, 0) where no page was logged.
        """
        shown = self.position > 0
        if not shown.any():
            return np.zeros((len(self.position), 0))
        return np.column_stack(
            [shown, np.where(shown, 1 / np.log2(1 + np.maximum(self.position, 1)), 0), self.position >= 0]
        )


def train(examples: Examples, settings: MetaModelSettings, ranks_only: bool = False) -> MetaModel:
    """Return a meta-model fitted to examples, of the kind that the settings name.

    Where pages were logged, the position of a sale on its page explains purchases in training and is no feature of the
    model: the first sale of a page is bought more often whichever it is (position bias). The intercept is corrected so
    that the number of purchases predicted is the number made, since negative examples are a sample, and sales that were
    not shown a small one. At last it is learnt how many sales a user buys on a day on which they buy, see `Basket`,
    and linear models are calibrated together with that, on the same examples. Trees are not: they are not linear,
    and overconfident on the examples that they were trained on.

    Args:
        examples: The examples.
        settings: The kind of model and how it is fitted.
        ranks_only: Leave out what changes no order: calibration and basket.

    Raises:
        EmptyInputError: If there is no purchase, or nothing but purchases.
        ValueError: If the page of the examples is not known, and the kind is `conditional`.

    Source:
        King and Zeng 2001, sec. 4.1, for the correction; unlike theirs, it holds for any mixture of sampling rates.
        Richardson et al. 2007, sec. 2, for the position.
    """
    purchases, drawn = int(examples.bought.sum()), int((~examples.bought).sum())
    if not purchases or not drawn:
        advice = "give later days" if not purchases else "give days on which several sales are open at the same time"
        raise EmptyInputError(
            f"table training_examples has {plural(purchases, 'purchase')} and {plural(drawn, 'sale')} not bought in "
            f"the {plural(settings.days, 'day')} before as_of, needs at least 1 of each: {advice}, or a larger "
            "meta_model.days"
        )
    is_linear = settings.kind != "boosted"
    model: MetaModel = _train_linear(examples, settings) if is_linear else _train_boosted(examples, settings)
    if ranks_only:
        return model
    if isinstance(model, LogisticModel):
        return _calibrate(model, examples)
    if examples.page is None:
        return model
    return replace(model, basket=_fit_basket(_log_odds(model, examples), examples, _page_numbers(examples.page)))


def _train_linear(examples: Examples, settings: MetaModelSettings) -> LogisticModel:
    scaler = StandardScaler().fit(examples.features)
    first, repeat = _weights_of_new_and_repeat(examples, scaler, settings)
    means, scales = scaler.mean_.tolist(), scaler.scale_.tolist()
    return LogisticModel(
        *(list(examples.names), means, scales, first.coefficients, first.intercept, repeat),
        knots=first.knots,
        bends=first.bends,
    )


def _calibrate(model: LogisticModel, examples: Examples) -> LogisticModel:
    """Return the model with its calibration curve and, where pages are known, its basket.

    What is served is the curve's value plus the shift to the user's basket. Each depends on the other: in turn, the
    curve is fitted to the examples with the shifts of their pages added, and the basket to the probabilities without.
    """
    log_odds, weights = _log_odds(model, examples), 1 / examples.sampling_rate
    curve = fit_calibration(log_odds, examples.bought, weights)
    if examples.page is None:
        return replace(model, calibration=curve)
    page = _page_numbers(examples.page)
    basket = _fit_basket(curve(log_odds), examples, page)
    for _ in range(ROUNDS):
        shifts, before = shifts_of_examples(basket, curve(log_odds), weights, page), curve.slopes
        curve = fit_calibration(log_odds, examples.bought, weights, shifts, start=curve)
        curve = curve.raised(_correction(curve(log_odds), examples))  # a constant in both would drift
        basket = _fit_basket(curve(log_odds), examples, page)
        if np.abs(curve.slopes - before).max() < SETTLED:
            break
    return replace(model, calibration=curve, basket=basket)


def _page_numbers(page: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pages numbered anew, without the gaps of those of which no example was chosen."""
    return np.unique(page, return_inverse=True)[1]


def _fit_basket(log_odds: NDArray[np.float32], examples: Examples, page: NDArray[np.int64]) -> Basket:
    probabilities = probability(log_odds).astype(np.float64)
    return fit_basket(probabilities, 1 / examples.sampling_rate, examples.bought, page)


def _weights_of_new_and_repeat(
    examples: Examples, scaler: StandardScaler, settings: MetaModelSettings
) -> tuple[Weights, Weights | None]:
    """Return the weights for sales that are new to the user, and those for repeat purchases.

    Where either have too few examples, all examples have the same weights and the second are None.
    """
    new, repeat = examples.where(~examples.repeat), examples.where(examples.repeat)
    if min(_minority_count(new), _minority_count(repeat)) < settings.min_repeats:
        return _fit_weights(examples, scaler, settings), None
    return _fit_weights(new, scaler, settings), _fit_weights(repeat, scaler, settings)


def _minority_count(examples: Examples) -> int:
    """Return the number of examples of the rarer class, bought or not bought."""
    purchases = int(examples.bought.sum())
    return min(purchases, len(examples.bought) - purchases)


def _fit_weights(examples: Examples, scaler: StandardScaler, settings: MetaModelSettings) -> Weights:
    features = scaler.transform(examples.features)
    knots = np.quantile(features, KNOTS if settings.bends else [], axis=0).T
    above = np.maximum(features[:, :, None] - knots, 0).reshape(len(features), -1)
    deviations = above.std(axis=0)
    deviations[deviations == 0] = np.inf  # nothing is above the knot
    fitted = _fit_columns(_columns(features, above, deviations, examples.position_features), examples, settings)
    n_features = features.shape[1]
    coefficients, bends = fitted[:n_features], fitted[n_features : n_features + above.shape[1]] / deviations
    at_means = np.maximum(-knots, 0).reshape(-1) @ bends
    intercept = _correction(features @ coefficients + above @ bends - at_means, examples)
    if not settings.bends:
        return Weights(coefficients.tolist(), intercept)
    raw_knots = scaler.inverse_transform(knots.T).T
    return Weights(coefficients.tolist(), intercept, raw_knots.tolist(), bends.reshape(knots.shape).tolist())


def _columns(
    features: NDArray[np.float32],
    above: NDArray[np.float32],
    deviations: NDArray[np.float32],
    position_features: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the features, what they are above the knots, standardised, and the position features, side by side.

    They take most of the memory of a training: 576 bytes per example of 18 features.
    """
    parts = features.shape[1], above.shape[1], position_features.shape[1]
    columns = np.empty((len(features), sum(parts)))
    of_features, of_bends, of_position = np.split(columns, np.cumsum(parts)[:2], axis=1)
    of_features[:], of_position[:] = features, position_features
    for column, values, mean, deviation in zip(of_bends.T, above.T, above.mean(axis=0), deviations, strict=True):
        column[:] = (values - mean) / deviation  # one by one, without a copy of all
    return columns


def _fit_columns(columns: NDArray[np.float64], examples: Examples, settings: MetaModelSettings) -> NDArray[np.float64]:
    """Return the coefficient of each column."""
    bought = examples.bought
    if settings.kind == "conditional":
        if examples.page is None:
            raise ValueError("examples.page is None: a conditional logit needs the page of each example")
        page, sales, c = examples.page, 1 / examples.sampling_rate, settings.regularization
        own_habits = bool(examples.repeat.all())  # of each user; the largest baskets would decide for all
        order = fit_coefficients(columns, bought, sales, page, c, pages_count_once=own_habits)
        return as_log_odds(order, columns, bought, page, c)
    return LogisticRegression(C=settings.regularization, max_iter=1000).fit(columns, bought).coef_[0]


def _train_boosted(examples: Examples, settings: MetaModelSettings) -> BoostedModel:
    import lightgbm  # here: imported only where trees are trained

    scaler, boosted = StandardScaler().fit(examples.features), settings.boosted
    parameters = {
        "objective": "binary",
        "learning_rate": boosted.learning_rate,
        "num_leaves": boosted.leaves,
        "min_data_in_leaf": boosted.min_examples,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    rows = np.column_stack([examples.features, examples.repeat, examples.position_features]).astype(np.float32)
    trees = lightgbm.train(parameters, lightgbm.Dataset(rows, examples.bought), boosted.trees)
    means, scales, names = scaler.mean_.tolist(), scaler.scale_.tolist(), list(examples.names)
    held = FIRST_POSITION if examples.position_features.shape[1] else []
    model = BoostedModel(names, means, scales, names, means, trees.model_to_string(), held, correction=0.0)
    return replace(model, correction=_correction(_log_odds(model, examples), examples))


def _correction(log_odds: NDArray[np.floating], examples: Examples) -> float:
    """Return the constant that makes the number of purchases predicted the number made, if added to the log-odds."""
    weights, made = 1 / examples.sampling_rate, examples.bought.sum()

    def excess(added: float) -> float:
        """Return the number of purchases predicted above the number made."""
        return float(expit(log_odds + added) @ weights - made)

    return float(brentq(excess, -WIDEST - log_odds.max(), WIDEST - log_odds.min()))


def evaluate(model: MetaModel, examples: Examples, shifts: NDArray[np.floating] | float = 0.0) -> dict[str, float]:
    """Return metrics of the predicted probabilities, each example weighted by the number of sales that it stands for.

    Args:
        model: The model.
        examples: The examples.
        shifts: See `predict`.

    Returns:
        `auc`, `log_loss` (nats per user and sale) and `calibration`, the purchases predicted per purchase made: 1 is
        calibrated. Empty where the examples have one class only.
    """
    if len(np.unique(examples.bought)) < 2:
        return {}
    predicted = predict(model, examples, shifts)
    weights = 1 / examples.sampling_rate
    return {
        "auc": float(roc_auc_score(examples.bought, predicted, sample_weight=weights)),
        "log_loss": float(log_loss(examples.bought, predicted, sample_weight=weights)),
        "calibration": float((predicted @ weights) / examples.bought.sum()),
    }


def predict(model: MetaModel, examples: Examples, shifts: NDArray[np.floating] | float = 0.0) -> NDArray[np.float64]:
    """Return the calibrated probability of each example.

    Args:
        model: The model.
        examples: The examples.
        shifts: Added to the log-odds of each example: `Basket.shifts` of its user and day, over all open sales.
    """
    return probability(model.calibrated(_log_odds(model, examples)) + shifts).astype(np.float64)


def _log_odds(model: MetaModel, examples: Examples) -> NDArray[np.float32]:
    return model.log_odds(examples.features.T, np.nonzero(examples.repeat))
