"""Themes: components of a non-negative matrix factorisation (NMF) of the photos' tags."""

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
from threadpoolctl import threadpool_limits

from recsys.errors import ConfigurationError, EmptyInputError, ModelError
from recsys.instants import compact

THEME_MODEL = "theme_model.json"
"""File of the theme model in a run's folder."""
_PROJECTION_SWEEPS = 100
"""Sweeps of coordinate descent per projection: fixed, so that a photo's themes do not depend on other photos."""
MIN_COSINE_OF_SAME_THEME = 0.5
"""Minimum cosine with a previous theme for a theme of a refit to keep its id and name."""
MAX_TAGS_IN_NAME = 3
MIN_SHARE_IN_NAME = 0.2
"""Minimum weight of a tag in a theme's name, relative to the theme's strongest tag."""
MIN_SHARE_OF_STRONGEST = 1e-9
"""Minimum weight of a tag of a theme, relative to the strongest tag: smaller weights, such as 1e-22, are rounding
errors of the fit, which differ between processors."""
FIT_ITERATIONS = 400
FIT_TOLERANCE = 1e-4
SMALLEST_SHARE_OF_THEME = 0.005
"""Tags with a smaller share of a theme are not named among its strongest."""
MIN_SHARE_OF_PHOTO = 0.01
"""Minimum share of a theme in the sum of a photo's theme weights; smaller weights are set to 0. Otherwise most
photos have most themes: 40 % of the non-zero weights are below it."""
MAX_ERROR_RATIO = 1.02
"""Maximum ratio of the error of a fit that starts from the previous themes to that of a new fit. On 478 scene photos of
SUN the ratio was 1.01, and 29.6 of 30 themes were preserved instead of 27.8; with half of the scenes replaced, 1.1."""


@dataclass(frozen=True)
class ThemeModel:
    """Themes as of an instant; all lists and matrices of themes have the same order."""

    version: str
    fingerprint: str  # of the settings of the fit
    as_of: int  # microseconds UTC; the model is fitted to photos of sales known at this instant
    tagger_version: str
    tags: list[str]
    ids: list[int]  # stable across refits
    next_id: int  # id of the next new theme; the ids of themes that have disappeared are not reused
    names: list[str]
    components: list[list[float]]  # (n_themes, n_tags), each theme of length 1
    scales: list[float]  # root mean square of each theme's activations over the fitted photos
    shares: list[float]  # share of the fitted photos whose strongest theme it is

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """The themes, shape (n_themes, n_tags)."""
        return np.array(self.components).reshape(len(self.ids), len(self.tags))

    def activations(self, photo_tags: csr_matrix) -> NDArray[np.float32]:
        """Project photos onto the themes, which stay fixed.

        Args:
            photo_tags: Shape (n_photos, n_tags), from `tag_matrix` with the tags of this model.

        Returns:
            Shape (n_photos, n_themes): the weight of each theme in a photo, 0 if below MIN_SHARE_OF_PHOTO of their
            sum; all 0 for a photo without a known tag. A photo's row does not depend on the other photos.
        """
        return _drop_small_weights(projection(photo_tags, self.matrix))

    def balanced(self, activations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scale activations so that every theme has root mean square 1 over the fitted photos."""
        scales = np.array(self.scales, np.float32)
        return np.divide(activations, scales, out=np.zeros_like(activations), where=scales > 0)

    def strongest_tags(self, theme: int, n: int) -> list[tuple[str, float]]:
        """Return at most n tags of the theme at a position with their shares of it, the strongest first."""
        shares = self.matrix[theme] / self.matrix[theme].sum()
        order = np.argsort(-shares, kind="stable")[:n]
        return [(self.tags[tag], float(shares[tag])) for tag in order if shares[tag] >= SMALLEST_SHARE_OF_THEME]

    def to_json(self) -> str:
        """Return the model as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ThemeModel":
        """Read a model that `to_json` wrote.

        Raises:
            ModelError: If the text is not a model.
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
    """Return the non-negative least-squares weights of themes for each photo's tags.

    Args:
        photo_tags: Shape (n_photos, n_tags).
        themes: Shape (n_themes, n_tags).

    Returns:
        Shape (n_photos, n_themes).
    """
    if not len(themes) or not photo_tags.shape[0]:
        return np.zeros((photo_tags.shape[0], len(themes)))
    from sklearn.decomposition import non_negative_factorization  # here: most of Spark's workers fit no themes

    weights, _, _ = non_negative_factorization(
        photo_tags.astype(np.float64),
        H=themes,
        n_components=len(themes),
        init="custom",
        update_H=False,
        solver="cd",
        tol=0,
        max_iter=_PROJECTION_SWEEPS,
    )
    return weights


def _drop_small_weights(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    threshold = MIN_SHARE_OF_PHOTO * weights.sum(axis=1, keepdims=True)
    return np.where(weights < threshold, 0, weights).astype(np.float32)


def renamed(model: ThemeModel, names: Mapping[int, str]) -> ThemeModel:
    """Return the model with other names of themes, given by id; unknown ids are ignored.

    Raises:
        ConfigurationError: If two themes would have the same name.
    """
    new_names = [names.get(number, name) for number, name in zip(model.ids, model.names, strict=True)]
    for number, name in zip(model.ids, new_names, strict=True):
        if new_names.count(name) > 1:
            raise ConfigurationError(f"images.themes.names: theme {number} == {name!r}, must be unique: choose another")
    return replace(model, names=new_names)


def tag_matrix(
    tags: Iterable[Iterable[str]], probabilities: Iterable[NDArray[np.float32]], columns: Sequence[str]
) -> csr_matrix:
    """Return the tag probabilities of photos as rows that are normalised to sum 1 before unknown tags are left out.

    The normalisation gives every photo the same weight, independent of the network's confidence: the best probability
    of a scene between two labels can be 0.2.

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
    """Fit themes to photos by NMF.

    Args:
        photo_tags: Shape (n_photos, n_tags), from `tag_matrix`; each photo once.
        tags: Names of the columns.
        n_themes: Number of themes; fewer if there are fewer photos or tags.
        previous: An earlier model: the fit starts from it, and themes that it contains keep their ids and names.
        as_of: Instant at which the photos were known, microseconds UTC.
        tagger_version: Version of the tagger of the photos.
        fingerprint: Fingerprint of the settings.
        seed: Random seed of the fit.

    Raises:
        EmptyInputError: If no photo has a tag.
    """
    photo_tags = photo_tags[np.flatnonzero(photo_tags.sum(axis=1))]
    if not photo_tags.shape[0]:
        raise EmptyInputError("0 photos with a tag, themes need at least 1: look at table rejected_images")
    components = _fit_components(photo_tags, min(n_themes, *photo_tags.shape), tags, previous, seed)
    ids, names, next_id = _assign_ids_and_names(components, tags, previous)
    order = np.argsort(ids)
    activations = _drop_small_weights(projection(photo_tags, components[order]))
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


def _fit_components(
    photo_tags: csr_matrix, n_themes: int, tags: list[str], previous: ThemeModel | None, seed: int
) -> NDArray[np.float64]:
    """Return themes of length 1 that occur in a photo, fitted from the previous ones if that is almost as good."""
    components, error = _factorise(photo_tags, n_themes, seed)
    if previous is not None and len(previous.ids) == n_themes:
        continued, error_continued = _factorise(photo_tags, n_themes, seed, _align_columns(previous, tags))
        if error_continued <= MAX_ERROR_RATIO * error:
            components = continued
    return components[_drop_small_weights(projection(photo_tags, components)).any(axis=0)]


def translated(model: ThemeModel, old_tags: csr_matrix, new_tags: csr_matrix, tags: list[str]) -> ThemeModel:
    """Return a model in the tags of another tagger, to which a refit can compare its themes.

    A tag becomes the tags that the other tagger gives the same photos, in proportion to how often and how strongly.

    Args:
        model: The model.
        old_tags: Shape (n_photos, n_tags_of_model), from `tag_matrix`, of photos that both taggers tagged.
        new_tags: Shape (n_photos, n_tags), of the same photos.
        tags: Names of the columns of `new_tags`.
    """
    from sklearn.preprocessing import normalize

    tag_map = normalize(old_tags.T @ new_tags, norm="l1")  # (n_tags_of_model, n_tags)
    components = normalize(np.asarray(model.matrix @ tag_map.toarray()))
    return replace(model, tags=tags, components=components.tolist())


def _factorise(
    photo_tags: csr_matrix, n_themes: int, seed: int, start: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], float]:
    """Return themes of length 1 and their reconstruction error."""
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import normalize

    start_matrices = {}
    if start is not None:
        level = np.sqrt(photo_tags.mean() / n_themes)
        start_matrices = {"W": np.full((photo_tags.shape[0], n_themes), level), "H": start + 1e-3}  # 0 would stay 0
    model = NMF(
        n_themes,
        init="custom" if start_matrices else "nndsvda",
        tol=FIT_TOLERANCE,
        max_iter=FIT_ITERATIONS,
        random_state=seed,
    )
    # The number of threads changes the rounding of sums. The squared error of a perfect fit can be slightly negative.
    with threadpool_limits(1), np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last sweeps change themes by a negligible amount
        model.fit_transform(photo_tags, **start_matrices)
    return normalize(model.components_), float(np.nan_to_num(model.reconstruction_err_))


def _align_columns(model: ThemeModel, tags: list[str]) -> NDArray[np.float64]:
    """Return a model's themes with one column per given tag; tags unknown to the model are 0."""
    column = {tag: position for position, tag in enumerate(model.tags)}
    matrix = np.zeros((len(model.ids), len(tags)))
    for position, tag in enumerate(tags):
        if tag in column:
            matrix[:, position] = model.matrix[:, column[tag]]
    return matrix


def _assign_ids_and_names(
    components: NDArray[np.float64], tags: list[str], previous: ThemeModel | None
) -> tuple[list[int], list[str], int]:
    """Return the id and name of each theme and the next id; themes of the previous model keep both."""
    previous = previous or no_themes()
    # All themes have length 1 over all of their own tags, so products are cosines even if some tags are gone.
    same = matched(components @ _align_columns(previous, tags).T)
    ids = {theme: previous.ids[earlier] for theme, earlier in same.items()}
    names = {theme: previous.names[earlier] for theme, earlier in same.items()}
    next_id = previous.next_id
    for theme in range(len(components)):
        if theme not in same:
            ids[theme], names[theme] = next_id, theme_name(components[theme], tags, set(names.values()))
            next_id += 1
    positions = range(len(components))
    return [ids[theme] for theme in positions], [names[theme] for theme in positions], next_id


def matched(cosines: NDArray[np.float64]) -> dict[int, int]:
    """Match rows to columns with the greatest sum of cosines; only pairs of at least MIN_COSINE_OF_SAME_THEME count."""
    similar = np.where(cosines >= MIN_COSINE_OF_SAME_THEME, cosines, 0)
    pairs = zip(*linear_sum_assignment(-similar), strict=True)
    return {int(theme): int(other) for theme, other in pairs if similar[theme, other]}


def cosine(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each row with each of `others`; 0 where one is all 0."""
    lengths = np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(others, axis=1))
    return np.divide(rows @ others.T, lengths, out=np.zeros(lengths.shape), where=lengths > 0)


def theme_name(component: NDArray[np.float64], tags: Sequence[str], taken: Collection[str]) -> str:
    """Name a theme by its strongest tags, such as `ocean · coast · sandbar`.

    If the name is taken, further tags of the theme are added; if there are no more tags, a number.
    """
    threshold = MIN_SHARE_OF_STRONGEST * component.max()
    order = [tag for tag in np.argsort(-component, kind="stable") if component[tag] > threshold]
    n_strong = sum(component[tag] >= MIN_SHARE_IN_NAME * component[order[0]] for tag in order)
    lengths = range(min(n_strong, MAX_TAGS_IN_NAME), len(order) + 1)
    names = [" · ".join(tags[tag] for tag in order[:length]) for length in lengths]
    numbered = (f"{names[0]} ({number})" for number in count(2))
    return next(name for name in chain(names, numbered) if name not in taken)


def embedding_themes(embeddings: NDArray[np.float32], n_themes: int, seed: int = 0) -> NDArray[np.float32]:
    """Return photos' weights of themes factorised from embeddings instead of tags, for comparison.

    Args:
        embeddings: Shape (n_photos, n_features); negative values count as 0.
        n_themes: Number of themes; fewer if there are fewer photos or features.
        seed: Random seed of the fit.

    Returns:
        Shape (n_photos, n_themes).
    """
    features = csr_matrix(np.maximum(embeddings, 0, dtype=np.float64))
    themes, _ = _factorise(features, max(1, min(n_themes, *features.shape)), seed)
    return projection(features, themes).astype(np.float32)


def sale_weights(
    photo_weights: NDArray[np.float32],
    sales: NDArray[np.int64],
    is_cover: NDArray[np.bool_],
    n_sales: int,
    cover: float,
) -> NDArray[np.float32]:
    """Return the weighted mean of the theme weights of each sale's photos.

    Args:
        photo_weights: Shape (n_photos, n_themes), balanced.
        sales: Shape (n_photos,), the position of each photo's sale.
        is_cover: Shape (n_photos,).
        n_sales: Number of sales.
        cover: Weight of a cover relative to another photo.

    Returns:
        Shape (n_sales, n_themes); 0 for a sale without photos.
    """
    counted = np.where(is_cover, cover, 1.0)
    sums = csr_matrix((counted, (sales, np.arange(len(sales)))), shape=(n_sales, len(sales))) @ photo_weights
    totals = np.bincount(sales, counted, minlength=n_sales)[:, None]
    return np.divide(sums, totals, out=np.zeros(sums.shape), where=totals > 0).astype(np.float32)
