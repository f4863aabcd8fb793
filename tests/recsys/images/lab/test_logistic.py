import numpy as np

from recsys.images.lab.logistic import fit_linear, folds_of, out_of_fold_probabilities


def test_groups_stay_in_one_fold_and_each_label_is_in_all_folds():
    groups = np.repeat(np.arange(40), 2)
    targets = np.eye(4, dtype=bool)[groups // 10]
    folds = folds_of(targets, groups)
    assert (folds[::2] == folds[1::2]).all()
    assert [np.bincount(folds[targets[:, label]], minlength=5).tolist() for label in range(4)] == [[4] * 5] * 4


def test_a_head_equals_the_regression_that_it_was_fitted_by():
    from sklearn.linear_model import LogisticRegression

    from recsys.images.lab.head import unit_length

    random = np.random.default_rng(0)
    embeddings = random.normal(size=(40, 5)).astype(np.float32)
    for n_labels in (2, 3):
        targets = np.eye(n_labels, dtype=bool)[np.arange(40) % n_labels]
        names = [f"label {number}" for number in range(n_labels)]
        expected = LogisticRegression(C=30.0, tol=1e-3, max_iter=1000).fit(unit_length(embeddings), targets.argmax(1))
        found = fit_linear(embeddings, targets, names, "single").probabilities(embeddings)
        np.testing.assert_allclose(found, expected.predict_proba(unit_length(embeddings)), atol=1e-4)


def test_outputs_without_an_example_are_never_said():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(20, 5)).astype(np.float32)
    targets = np.zeros((20, 3), bool)
    targets[::2, 0], targets[1::2, 2] = True, True
    for kind in ("single", "multi"):
        assert fit_linear(embeddings, targets, list("abc"), kind).probabilities(embeddings)[:, 1].max() < 1e-9


def test_no_photo_is_judged_by_a_head_that_saw_its_group():
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(40, 20)).astype(np.float32)  # noise: what was not seen cannot be known
    embeddings[1::2] = embeddings[::2]
    targets = np.eye(2, dtype=bool)[np.repeat(random.integers(0, 2, 20), 2)]
    apart = out_of_fold_probabilities(embeddings, targets, np.arange(40), ["a", "b"], "single")
    together = out_of_fold_probabilities(embeddings, targets, np.arange(40) // 2, ["a", "b"], "single")
    assert (apart[targets] > 0.5).mean() > 0.8
    assert (together[targets] > 0.5).mean() < 0.7
