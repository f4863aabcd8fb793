import numpy as np

from benchmarks.lambda_rank import GRID, train_grid, train_with_and_without_towers
from recsys.meta_model.training import Examples


def examples_of_pages(names: list[str]) -> Examples:
    """Return pages of eight sales, of which the one with the largest value of the first feature was bought."""
    random, n_pages, of_page = np.random.default_rng(0), 300, 8
    signal = random.random((n_pages, of_page)).astype(np.float32)
    level = np.repeat(random.random(n_pages) * 9, of_page).astype(np.float32)  # of the page: says nothing about order
    bought = signal == signal.max(axis=1, keepdims=True)
    shuffled = random.permutation(n_pages * of_page)
    features = np.column_stack([signal.ravel(), level])[shuffled]
    nothing, n = np.zeros(len(shuffled), bool), len(shuffled)
    page = np.repeat(np.arange(n_pages), of_page)[shuffled]
    return Examples(names, features, bought.ravel()[shuffled], np.ones(n), nothing, np.full(n, -1, np.int32), page)


def test_trees_order_the_sales_of_a_page_and_fewer_trees_are_the_first_ones():
    examples = examples_of_pages(["signal", "level"])
    models = train_grid(examples)
    assert len(models) == len(GRID["leaves"]) * len(GRID["trees"])
    scores = models["4 leaves, 25 trees"].log_odds(np.array([[0.1, 0.5, 0.98], [5, 1, 3]], np.float32))
    assert scores[0] < scores[1] < scores[2]
    assert models["4 leaves, 75 trees"].booster.num_trees() == 75


def test_trees_are_also_tried_without_the_learned_feature(monkeypatch):
    monkeypatch.setitem(GRID, "leaves", (4,))
    monkeypatch.setitem(GRID, "trees", (5,))
    models = train_with_and_without_towers(examples_of_pages(["signal", "towers"]))
    features = {name: model.features for name, model in models.items()}
    assert features == {"4 leaves, 5 trees": ["signal", "towers"], "4 leaves, 5 trees, without towers": ["signal"]}
    assert list(train_with_and_without_towers(examples_of_pages(["signal", "level"]))) == ["4 leaves, 5 trees"]
