"""Themes: what photos have in common, by non-negative matrix factorisation of their tags."""

import hashlib
import json
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from sklearn.decomposition import NMF, non_negative_factorization
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from recsys.errors import ConfigurationError, EmptyInputError, ModelError
from recsys.instants import compact

THEME_MODEL = "theme_model.json"
"""The file of a run's folder that holds its themes."""
SWEEPS = 100
"""Of coordinate descent when photos are projected: always as many, so that a photo's themes depend on it alone."""
SAME_THEME = 0.5
"""A theme of a refit whose tags have at least this cosine with an earlier theme's keeps its id and name."""
NAME_TAGS = 3
NAMED_SHARE = 0.2
"""A tag is part of a theme's name if it weighs so much of the strongest."""
LEAST_OF_STRONGEST = 1e-9
"""A tag that weighs a smaller share of the strongest is not in the theme: the fit left it by rounding, 0 or 1e-22 as
the processor adds up."""
FIT_ITERATIONS = 400
FIT_TOLERANCE = 1e-4
LEAST_SHARE = 0.01
"""A theme that is a smaller part of what all themes explain of a photo is not on it: else most photos have most themes,
and 40 % of what is not 0 is below."""
WORSE_START = 1.02
"""A fit that starts from the previous themes may leave so many times the error of a fresh one. On 478 scene photos of
SUN it left 1.01 times and kept 29.6 of 30 themes, not 27.8; where half the scenes had changed, 1.1 times."""


@dataclass(frozen=True)
class ThemeModel:
    """Themes as of an instant; position in every list is the position of the theme in every matrix."""

    version: str
    fingerprint: str  # of the settings of the fit
    as_of: int  # photos of sales known at it were fitted to, microseconds UTC
    tagger_version: str
    tags: list[str]
    ids: list[int]  # kept from fit to fit
    next_id: int  # of the next new theme: that of a theme which has disappeared is not given again
    names: list[str]
    components: list[list[float]]  # (n_themes, n_tags), each theme of length 1
    scales: list[float]  # root mean square of each theme's activation over the photos that were fitted to
    shares: list[float]  # share of these photos whose strongest theme it is

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The themes, shape (n_themes, n_tags)."""
        return np.array(self.components).reshape(len(self.ids), len(self.tags))

    def activations(self, photo_tags: csr_matrix) -> NDArray[np.float32]:
        """Project photos onto the themes without fitting.

        Args:
            photo_tags: Shape (n_photos, n_tags), from `tag_matrix` with the tags of this model.

        Returns:
            Shape (n_photos, n_themes): how much of a photo's tags each theme explains, 0 where it is less than
            LEAST_SHARE of all that is explained; all 0 for a photo without a known tag. A photo's row does not depend
            on the other photos.
        """
        return _without_traces(projection(photo_tags, self.matrix))

    def balanced(self, activations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weigh activations so that every theme has the same weight over the photos that were fitted to."""
        scales = np.array(self.scales, np.float32)
        return np.divide(activations, scales, out=np.zeros_like(activations), where=scales > 0)

    def to_json(self) -> str:
        """Write the model as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ThemeModel":
        """Read a model that `to_json` wrote.

        Raises:
            ModelError: If it is not one.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"the theme model cannot be read ({error}): remove its file, and 'recsys nightly' fits it again"
            ) from error


def no_themes() -> ThemeModel:
    """Return the model of a shop without photos."""
    return ThemeModel("none", "", 0, "", [], [], 1, [], [], [], [])


def projection(photo_tags: csr_matrix, themes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the non-negative weights of themes that come closest to each photo's tags, by least squares.

    Args:
        photo_tags: Shape (n_photos, n_tags).
        themes: Shape (n_themes, n_tags).

    Returns:
        Shape (n_photos, n_themes).
    """
    if not len(themes) or not photo_tags.shape[0]:
        return np.zeros((photo_tags.shape[0], len(themes)))
    weights, _, _ = non_negative_factorization(
        photo_tags.astype(np.float64),
        H=themes,
        n_components=len(themes),
        init="custom",
        update_H=False,
        solver="cd",
        tol=0,
        max_iter=SWEEPS,
    )
    return weights


def _without_traces(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    least = LEAST_SHARE * weights.sum(axis=1, keepdims=True)
    return np.where(weights < least, 0, weights).astype(np.float32)


def renamed(model: ThemeModel, names: Mapping[int, str]) -> ThemeModel:
    """Call themes by other names, given by id; ids that there are not count nowhere.

    Raises:
        ConfigurationError: If two themes would have the same name.
    """
    wanted = [names.get(number, name) for number, name in zip(model.ids, model.names, strict=True)]
    for number, name in zip(model.ids, wanted, strict=True):
        if wanted.count(name) > 1:
            raise ConfigurationError(f"images.themes.names: theme {number} == {name!r}, must be a name of its own")
    return replace(model, names=wanted)


def tag_matrix(
    tags: Iterable[Iterable[str]], probabilities: Iterable[NDArray[np.float32]], columns: Sequence[str]
) -> csr_matrix:
    """Arrange the best tags of photos as rows that sum to 1 over all tags; tags without a column are left out.

    Photos weigh the same, however sure the network was: a probability of 0.2 may be all that a scene between two labels
    gets.

    Returns:
        Shape (n_photos, n_columns), float64.
    """
    column = {tag: position for position, tag in enumerate(columns)}
    rows, positions, values = [], [], []
    row = -1
    for row, (names, shares) in enumerate(zip(tags, probabilities, strict=True)):
        total = float(np.sum(shares))
        for name, share in zip(names, shares, strict=True):
            if name in column and total > 0:
                rows.append(row)
                positions.append(column[name])
                values.append(float(share) / total)
    return csr_matrix((values, (rows, positions)), shape=(row + 1, len(columns)), dtype=np.float64)


def fit_themes(
    photo_tags: csr_matrix,
    tags: list[str],
    n_themes: int,
    previous: ThemeModel | None = None,
    *,
    as_of: int,
    tagger_version: str,
    fingerprint: str = "",
    seed: int = 0,
) -> ThemeModel:
    """Fit themes to photos.

    Args:
        photo_tags: Shape (n_photos, n_tags), from `tag_matrix`; each photo once.
        tags: Names of the columns.
        n_themes: How many, fewer where there are fewer photos or tags.
        previous: An earlier model: fitting starts from it, and themes that are still there keep their ids and names.
        as_of: The photos were known at this instant, microseconds.
        tagger_version: What tagged them.
        fingerprint: Of the settings.
        seed: Of the start of the fit.

    Raises:
        EmptyInputError: If no photo has a tag.
    """
    photo_tags = photo_tags[np.flatnonzero(photo_tags.sum(axis=1))]
    if not photo_tags.shape[0]:
        raise EmptyInputError("0 photos with a tag, themes need at least 1: look at table rejected_images")
    components = _components(photo_tags, min(n_themes, *photo_tags.shape), tags, previous, seed)
    ids, names, next_id = _identified(components, tags, previous)
    order = np.argsort(ids)
    activations = _without_traces(projection(photo_tags, components[order]))
    strongest = np.bincount(activations.argmax(axis=1), minlength=len(components))
    model = ThemeModel(
        version="",
        fingerprint=fingerprint,
        as_of=as_of,
        tagger_version=tagger_version,
        tags=tags,
        ids=[ids[theme] for theme in order],
        next_id=next_id,
        names=[names[theme] for theme in order],
        components=components[order].tolist(),
        scales=np.sqrt(np.mean(activations.astype(np.float64) ** 2, axis=0)).tolist(),
        shares=(strongest / len(activations)).tolist(),
    )
    digest = hashlib.sha256(model.to_json().encode()).hexdigest()
    return replace(model, version=f"{compact(as_of)}-{digest[:8]}")


def _components(
    photo_tags: csr_matrix, n_themes: int, tags: list[str], previous: ThemeModel | None, seed: int
) -> NDArray[np.float64]:
    """Return themes of length 1, as many as photos need; fitted from the previous ones where that is nearly as good."""
    components, error = _factorized(photo_tags, n_themes, seed)
    if previous is not None and len(previous.ids) == n_themes:
        continued, error_continued = _factorized(photo_tags, n_themes, seed, _with_columns(previous, tags))
        if error_continued <= WORSE_START * error:
            components = continued
    return components[_without_traces(projection(photo_tags, components)).any(axis=0)]


def _factorized(
    photo_tags: csr_matrix, n_themes: int, seed: int, start: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], float]:
    """Return themes of length 1 and the error that they leave."""
    given = {}
    if start is not None:
        level = np.sqrt(photo_tags.mean() / n_themes)
        given = {"W": np.full((photo_tags.shape[0], n_themes), level), "H": start + 1e-3}  # what is 0 would stay 0
    model = NMF(
        n_themes,
        init="custom" if given else "nndsvda",
        tol=FIT_TOLERANCE,
        max_iter=FIT_ITERATIONS,
        random_state=seed,
    )
    # On more threads, sums are rounded in another order. A perfect fit's error may be the root of a little less than 0.
    with threadpool_limits(1), np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last sweeps move themes by less than can be seen
        model.fit_transform(photo_tags, **given)
    return normalize(model.components_), float(np.nan_to_num(model.reconstruction_err_))


def _with_columns(model: ThemeModel, tags: list[str]) -> NDArray[np.float64]:
    """Return a model's themes with the columns of other tags."""
    column = {tag: position for position, tag in enumerate(model.tags)}
    matrix = np.zeros((len(model.ids), len(tags)))
    for position, tag in enumerate(tags):
        if tag in column:
            matrix[:, position] = model.matrix[:, column[tag]]
    return matrix


def _identified(
    components: NDArray[np.float64], tags: list[str], previous: ThemeModel | None
) -> tuple[list[int], list[str], int]:
    """Return id and name of each theme, and the next id; a theme that was there before keeps both."""
    previous = previous or no_themes()
    # All have length 1, an earlier theme over all of its tags: products are cosines, though some tags are gone.
    same = matched(components @ _with_columns(previous, tags).T)
    ids = {theme: previous.ids[earlier] for theme, earlier in same.items()}
    names = {theme: previous.names[earlier] for theme, earlier in same.items()}
    next_id = previous.next_id
    for theme in range(len(components)):
        if theme not in same:
            ids[theme], names[theme] = next_id, theme_name(components[theme], tags, set(names.values()))
            next_id += 1
    every = range(len(components))
    return [ids[theme] for theme in every], [names[theme] for theme in every], next_id


def matched(cosines: NDArray[np.float64]) -> dict[int, int]:
    """Pair rows with columns so that the sum of their cosines is greatest; only pairs of at least SAME_THEME count."""
    similar = np.where(cosines >= SAME_THEME, cosines, 0)
    pairs = zip(*linear_sum_assignment(-similar), strict=True)
    return {int(theme): int(other) for theme, other in pairs if similar[theme, other]}


def cosine(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each row with each other row; 0 where one is empty."""
    lengths = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(others, axis=1))
    return np.divide(rows @ others.T, lengths, out=np.zeros(lengths.shape), where=lengths > 0)


def theme_name(component: NDArray[np.float64], tags: Sequence[str], taken: Collection[str]) -> str:
    """Name a theme by its strongest tags, such as `ocean · coast · sandbar`.

    Where the name is taken, further tags of the theme are added, and a number where it has no more.
    """
    least = LEAST_OF_STRONGEST * component.max()
    order = [tag for tag in np.argsort(-component, kind="stable") if component[tag] > least]
    strong = sum(component[tag] >= NAMED_SHARE * component[order[0]] for tag in order)
    lengths = range(min(strong, NAME_TAGS), len(order) + 1)
    names = [" · ".join(tags[tag] for tag in order[:length]) for length in lengths]
    numbered = (f"{names[0]} ({number})" for number in count(2))
    return next(name for name in chain(names, numbered) if name not in taken)


def embedding_themes(embeddings: NDArray[np.float32], n_themes: int, seed: int = 0) -> NDArray[np.float32]:
    """Factorise embeddings instead of tags, to be compared with: photos' activations of nameless themes.

    Args:
        embeddings: Shape (n_photos, n_features); what is negative counts as 0.
        n_themes: How many, fewer where there are fewer photos or features.
        seed: Of the start of the fit.

    Returns:
        Shape (n_photos, n_themes).
    """
    features = csr_matrix(np.maximum(embeddings, 0, dtype=np.float64))
    themes, _ = _factorized(features, max(1, min(n_themes, *features.shape)), seed)
    return projection(features, themes).astype(np.float32)


def sale_weights(
    photo_weights: NDArray[np.float32],
    sales: NDArray[np.int64],
    is_cover: NDArray[np.bool_],
    n_sales: int,
    cover: float,
) -> NDArray[np.float32]:
    """Average the themes of each sale's photos, its cover weighted more.

    Args:
        photo_weights: Shape (n_photos, n_themes), balanced.
        sales: Shape (n_photos,), the position of each photo's sale.
        is_cover: Shape (n_photos,).
        n_sales: How many sales there are.
        cover: A cover counts as much as so many other photos.

    Returns:
        Shape (n_sales, n_themes); 0 for a sale without photos.
    """
    counted = np.where(is_cover, cover, 1.0)
    sums = csr_matrix((counted, (sales, np.arange(len(sales)))), shape=(n_sales, len(sales))) @ photo_weights
    totals = np.bincount(sales, counted, minlength=n_sales)[:, None]
    return np.divide(sums, totals, out=np.zeros(sums.shape), where=totals > 0).astype(np.float32)
