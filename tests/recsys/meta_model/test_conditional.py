from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import approx_fprime
from scipy.special import logsumexp

from recsys.meta_model import MetaModelSettings
from recsys.meta_model.calibration import LEAST_SLOPE
from recsys.meta_model.conditional import as_log_odds, fit_coefficients
from recsys.meta_model.training import Examples, evaluate, predict, train

CONDITIONAL = MetaModelSettings(kind="conditional", bends=False, min_repeats=20)
LOGISTIC = CONDITIONAL.model_copy(update={"kind": "logistic"})


def negative_log_likelihood(coefficients, features, bought, sales, page, regularization, pages_count_once) -> float:
    """Return the penalised likelihood, one softmax per purchase."""
    scores = features @ coefficients + np.log(sales)
    loss = coefficients @ coefficients / (2 * regularization)
    for each in np.unique(page):
        purchases = np.flatnonzero(bought & (page == each))
        others = scores[~bought & (page == each)]
        weight = 1 / len(purchases) if pages_count_once and len(purchases) else 1
        loss -= weight * sum(scores[row] - logsumexp([scores[row], *others]) for row in purchases)
    return float(loss)


def random_pages(seed: int) -> tuple[np.ndarray, ...]:
    """Return features, purchases, sales and pages: 0 to 3 purchases on each of 25 pages, one page of purchases only."""
    rng = np.random.default_rng(seed)
    page = rng.permutation(np.repeat(np.arange(25), rng.integers(2, 9, 25)))
    features = rng.normal(size=(len(page), 3))
    bought = rng.random(len(page)) < 0.35
    bought[page == 7] = True
    return features, bought, np.where(bought, 1.0, rng.choice([1.0, 2.5, 40.0], len(page))), page


@pytest.mark.parametrize("pages_count_once", [False, True])
def test_coefficients_maximise_the_softmax_likelihood_of_each_purchase_on_its_page(pages_count_once):
    pages = random_pages(3)
    found = fit_coefficients(*pages, 0.7, pages_count_once)
    arguments = (*pages, 0.7, pages_count_once)
    assert_allclose(approx_fprime(found, negative_log_likelihood, 1e-6, *arguments), 0, atol=2e-3)
    best = negative_log_likelihood(found, *arguments)
    for column in range(3):
        for step in (-0.05, 0.05):
            assert negative_log_likelihood(found + step * np.eye(3)[column], *arguments) > best


def test_pages_without_a_purchase_or_without_another_sale_say_nothing():
    features, bought, sales, page = random_pages(4)
    counts = np.array([[np.sum(bought[page == each] == kind) for kind in (False, True)] for each in range(25)])
    speaks = (counts > 0).all(axis=1)
    assert 5 < speaks.sum() < 25
    rows = speaks[page]
    found = fit_coefficients(features, bought, sales, page, 1.0)
    assert_allclose(found, fit_coefficients(features[rows], bought[rows], sales[rows], page[rows], 1.0), atol=1e-3)
    assert_allclose(fit_coefficients(features[~rows], bought[~rows], sales[~rows], page[~rows], 1.0), 0)


def test_pages_that_count_once_count_the_same_whatever_their_number_of_purchases():
    features, bought, sales, page = random_pages(5)
    copied = np.concatenate([np.arange(len(page)), np.flatnonzero(bought & (page < 12))])
    copies = features[copied], bought[copied], sales[copied], page[copied]
    found = fit_coefficients(features, bought, sales, page, 1.0, pages_count_once=True)
    assert_allclose(fit_coefficients(*copies, 1.0, pages_count_once=True), found, atol=1e-3)
    assert not np.allclose(fit_coefficients(*copies, 1.0), fit_coefficients(features, bought, sales, page, 1.0), 0.01)


class Users:
    """Pages of 30 sales; users with high values of the feature buy less, but of their page what is high."""

    def __init__(self, seed: int, n_pages: int = 600) -> None:
        rng = np.random.default_rng(seed)
        level = rng.normal(0, 3, n_pages)
        x = (level[:, None] + rng.normal(size=(n_pages, 30))).astype(np.float32)
        busy = np.repeat(rng.normal(size=n_pages).astype(np.float32)[:, None], 30, axis=1)
        log_odds = -3 - 2 * level[:, None] + x + 0.5 * busy
        bought = rng.random(x.shape) < 1 / (1 + np.exp(-log_odds))
        drawn = bought | (rng.random(x.shape) < 0.3)
        pages = np.repeat(np.arange(n_pages)[:, None], 30, axis=1)
        self.examples = Examples(
            ["x", "busy"],
            np.stack([x, busy], axis=-1)[drawn],
            bought[drawn],
            np.where(bought, 1, 0.3)[drawn],
            np.zeros(drawn.sum(), bool),
            np.full(drawn.sum(), -1),
            pages[drawn],
        )


@pytest.fixture(scope="module")
def users() -> Examples:
    return Users(1).examples


def test_sales_are_ordered_as_on_their_pages_where_single_sales_mislead(users):
    page_wise, cell_wise = train(users, CONDITIONAL), train(users, LOGISTIC)
    higher = np.array([[0.0, 1.0], [0.0, 0.0]], np.float32)  # two sales of a page; the second has the higher x
    assert np.diff(page_wise.log_odds(higher))[0] > 0
    assert np.diff(cell_wise.log_odds(higher))[0] < 0


def test_sample_gives_the_direction_of_all_sales():
    rng = np.random.default_rng(6)
    features, page = rng.normal(size=(40_000, 2)), np.repeat(np.arange(400), 100)
    bought = rng.random(40_000) < 1 / (1 + np.exp(4.5 - features @ [1.0, -0.5]))
    drawn, ones = bought | (rng.random(40_000) < 0.2), np.ones(40_000)
    whole = fit_coefficients(features, bought, ones, page, 1.0)
    sampled = fit_coefficients(features[drawn], bought[drawn], np.where(bought, 1, 5.0)[drawn], page[drawn], 1.0)
    assert_allclose(whole, [1.0, -0.5], atol=0.1)
    assert sampled[0] / sampled[1] == pytest.approx(whole[0] / whole[1], rel=0.05)


def test_feature_that_a_page_shares_raises_its_log_odds_and_keeps_its_order():
    rng = np.random.default_rng(7)
    page = np.repeat(np.arange(500), 20)
    features = np.column_stack([rng.normal(size=10_000), rng.normal(size=500)[page]])
    bought = rng.random(10_000) < 1 / (1 + np.exp(2 - features @ [0.8, 1.5]))
    order = fit_coefficients(features, bought, np.ones(10_000), page, 1.0)
    found = as_log_odds(order, features, bought, page, 1.0)
    assert order[1] == pytest.approx(0, abs=1e-9)
    assert_allclose(found, [0.8, 1.5], atol=0.1)


def test_log_odds_never_reverse_the_order_of_a_page(users):
    features = users.features.astype(np.float64)
    order = fit_coefficients(features, users.bought, 1 / users.sampling_rate, users.page, 1.0)
    found = as_log_odds(order, features, users.bought, users.page, 1.0)
    assert order[0] > 0
    assert found[0] == pytest.approx(LEAST_SLOPE * order[0])  # over all cells x speaks against a purchase


def well_behaved(seed: int, share: float = 0.4) -> Examples:
    """Return examples of 3,000 pages, a quarter of whose sales are repeat purchases that follow another law.

    A share of the sales that were not bought are examples.
    """
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(3_000, 25, 3)).astype(np.float32)
    features[..., 2] = features[:, :1, 2]  # the same for all sales of a page
    repeat = rng.random((3_000, 25)) < 0.25
    log_odds = np.where(repeat, -2 + features @ [0.2, 1.0, 0.5], -4 + features @ [1.0, 0.0, -0.5])
    bought = rng.random(repeat.shape) < 1 / (1 + np.exp(-log_odds))
    drawn = bought | (rng.random(repeat.shape) < share)
    pages = np.repeat(np.arange(3_000)[:, None], 25, axis=1)
    return Examples(
        ["a", "b", "c"],
        features[drawn],
        bought[drawn],
        np.where(bought, 1, share)[drawn],
        repeat[drawn],
        np.full(drawn.sum(), -1),
        pages[drawn],
    )


def test_probabilities_are_calibrated_on_other_pages_of_the_same_law():
    learnt, other = well_behaved(8), well_behaved(9, share=1.0)
    model = train(learnt, CONDITIONAL)
    assert_allclose(np.divide(model.coefficients, model.scales), [1.0, 0.0, -0.5], atol=0.1)
    assert_allclose(np.divide(model.repeat.coefficients, model.scales), [0.2, 1.0, 0.5], atol=0.1)
    assert evaluate(model, other)["calibration"] == pytest.approx(1, abs=0.05)
    said = model.calibrated(model.log_odds(other.features.T, np.nonzero(other.repeat)))
    predicted = predict(model, other, np.repeat(model.shifts(said.reshape(3_000, 25), np.ones(25)), 25))
    for kind in (other.repeat, ~other.repeat):
        for part in np.array_split(np.flatnonzero(kind)[np.argsort(predicted[kind])], 4):
            made = other.bought[part].sum()
            assert predicted[part].sum() == pytest.approx(made, abs=3.5 * made**0.5)


def test_repeat_purchases_count_once_per_page_and_new_ones_each():
    sample = well_behaved(8)
    model = train(sample, CONDITIONAL)
    features = ((sample.features - np.array(model.means)) / np.array(model.scales)).astype(np.float64)
    for kind, weights, once in ((sample.repeat, model.repeat, True), (~sample.repeat, model, False)):
        rows = features[kind], sample.bought[kind], 1 / sample.sampling_rate[kind], sample.page[kind]
        a, b = weights.coefficients[:2]
        (c, d), (e, f) = (fit_coefficients(*rows, 1.0, each)[:2] for each in (once, not once))
        assert a * d == pytest.approx(b * c, abs=3e-4)  # the same direction
        assert a * f != pytest.approx(b * e, abs=3e-4)


def test_without_repeat_purchases_all_sales_have_the_same_coefficients(users):
    assert train(users, CONDITIONAL).repeat is None
    few = replace(users, repeat=np.arange(len(users.bought)) < 19)
    assert train(few, CONDITIONAL).repeat is None


def test_pages_of_one_sale_each_are_compared_with_each_other(users):
    alone = replace(users, page=np.arange(len(users.bought)))
    found, expected = train(alone, CONDITIONAL), train(alone, LOGISTIC)
    assert_allclose(found.coefficients, expected.coefficients, rtol=1e-3)


def test_examples_without_pages_are_an_error(users):
    with pytest.raises(ValueError, match="needs the page of each example"):
        train(replace(users, page=None), CONDITIONAL)
