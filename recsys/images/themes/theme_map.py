"""The theme map: photos in two dimensions for several kinds of features, as one HTML page that loads nothing else."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import KDTree
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from recsys.errors import EmptyInputError, InputError

NO_THEME = -1

_NEIGHBOURS = 10
_PERPLEXITY = 30  # scikit-learn's default; t-SNE needs more than three times as many photos
_COMPONENTS = 50  # of PCA before t-SNE, as scikit-learn recommends; van der Maaten and Hinton 2008, sec. 4.2, use 30
_MIN_PHOTOS_FOR_TSNE = 4
_DOT = 0.02  # diameter of a photo's dot on a map of radius 1
_RELATIVE_DOT = 0.5  # maximum diameter in units of 1 / √n_photos: dots cover at most about 1/12 of the map
_ROUNDS = 50
_GOLDEN_ANGLE = np.pi * (3 - 5**0.5)
_JPEG_START = b"\xff\xd8"


@dataclass(frozen=True)
class MapPhotos:
    """The photos on the map; every list has one entry per photo, in the same order."""

    names: list[str]  # title of the photo, shown as text even if it contains markup
    tags: list[list[str]]  # strongest first
    thumbnails: list[bytes]  # small JPEGs, or empty bytes for no picture; the page takes 4/3 of their size
    themes: NDArray[np.int64]  # (n_photos,), position of the strongest theme in theme_names, or NO_THEME
    theme_names: list[str]
    groups: list[str] | None = None  # the shop's category of each photo, independent of themes


@dataclass(frozen=True)
class Quality:
    """Quality measures of a map; None where undefined, as with one theme or two photos."""

    trustworthiness: float | None  # in [0, 1], 0.5 by chance: are neighbours in the map neighbours in the features
    same_theme: float | None  # in [0, 1]: share of the 10 nearest neighbours in the map with the same strongest theme
    same_theme_by_chance: float | None
    silhouette: float | None  # in [-1, 1], of themes as clusters in the map
    same_group: float | None  # like same_theme, for groups; unlike it, favours no treatment
    same_group_by_chance: float | None


@dataclass(frozen=True)
class Treatment:
    """The map of one kind of features of the photos."""

    name: str
    positions: NDArray[np.float64]  # (n_photos, 2), centred; the farthest photo has distance 1
    quality: Quality


def theme_map(photos: MapPhotos, treatments: Mapping[str, NDArray[np.float32]], seed: int = 0) -> list[Treatment]:
    """Lay out the photos by t-SNE, once per treatment, and measure the quality of each map.

    Photos whose features have a high cosine are close to each other. The orientation of a t-SNE map is arbitrary, so
    every map is rotated and reflected to match the first one (orthogonal Procrustes). Photos with equal features, such
    as those of a single theme, get the same position from t-SNE; photos closer than the diameter of a dot are pushed
    apart. Runs on one thread, so that the same input gives the same map on any number of cores.

    Args:
        photos: A few thousand at most: the quality measures need n_photos² × 24 bytes of memory.
        treatments: Features by name of treatment, shape (n_photos, n_features), on any scale. A row of zeros is a photo
            without features, which is left out of trustworthiness.
        seed: Random seed of t-SNE and of the PCA to 50 dimensions before it.

    Raises:
        EmptyInputError: If there is no photo or no treatment.
        InputError: If photos and features differ in number, or a feature is not finite.

    Source:
        van der Maaten and Hinton 2008; PCA initialisation of Kobak and Berens 2019. Perplexity is 30, or
        (n_photos - 1) / 3 for fewer than 91 photos.
    """
    _check_photos(photos)
    if not treatments:
        raise EmptyInputError("the theme map has 0 treatments, needs at least 1: give features of the photos")
    unit_rows = {name: _unit_rows(name, features, len(photos.names)) for name, features in treatments.items()}
    with threadpool_limits(1):
        layouts = {
            name: _scale_to_unit_disc(_push_apart(_scale_to_unit_disc(_layout(rows, seed)), seed))
            for name, rows in unit_rows.items()
        }
        first = next(iter(layouts.values()))
        return [
            Treatment(name, _rotate_to(layout, first), map_quality(photos, unit_rows[name], layout))
            for name, layout in layouts.items()
        ]


def map_quality(photos: MapPhotos, features: NDArray[np.float64], positions: NDArray[np.float64]) -> Quality:
    """Measure the quality of a map.

    Args:
        photos: Their themes and groups are used. A photo without a theme is left out of the mean share, and differs in
            theme from every photo that it is a neighbour of.
        features: Shape (n_photos, n_features), rows of length 1 or 0.
        positions: Shape (n_photos, 2).
    """
    neighbours = _nearest_neighbours(positions)
    groups = _number_groups(photos.groups) if photos.groups is not None else np.full(len(positions), NO_THEME)
    return Quality(
        trustworthiness=_trustworthiness(features, positions),
        same_theme=_agreement(photos.themes, neighbours),
        same_theme_by_chance=_agreement_by_chance(photos.themes),
        silhouette=_silhouette(photos.themes, positions),
        same_group=_agreement(groups, neighbours),
        same_group_by_chance=_agreement_by_chance(groups),
    )


def map_page(photos: MapPhotos, treatments: Sequence[Treatment], title: str) -> str:
    """Return the map as one HTML page, which loads nothing else and shows markup in texts as text.

    Raises:
        EmptyInputError: If there is no photo or no treatment.
        InputError: If photos and positions differ in number.
    """
    _check_photos(photos)
    if not treatments:
        raise EmptyInputError("the theme map has 0 treatments, needs at least 1: call theme_map first")
    for treatment in treatments:
        _check_shape(f"positions of treatment {treatment.name!r}", treatment.positions, len(photos.names))
    template = (files(__package__) / "theme_map.html").read_text(encoding="utf-8")
    return template.replace("{{data}}", _json_for_html(_page_data(photos, treatments, title)))


def _page_data(photos: MapPhotos, treatments: Sequence[Treatment], title: str) -> dict[str, Any]:
    return {
        "title": title,
        "names": photos.names,
        "tags": photos.tags,
        "thumbnails": [base64.b64encode(jpeg).decode("ascii") for jpeg in photos.thumbnails],
        "themes": photos.themes.tolist(),
        "themeNames": photos.theme_names,
        "groups": photos.groups,
        "treatments": [
            {"name": each.name, "positions": np.round(each.positions, 4).tolist(), "quality": asdict(each.quality)}
            for each in treatments
        ],
    }


def _json_for_html(data: dict[str, Any]) -> str:
    """Return JSON that is safe inside a script element: `<`, which occurs only in strings, is escaped."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _check_photos(photos: MapPhotos) -> None:
    n_photos = len(photos.names)
    if n_photos == 0:
        raise EmptyInputError("the theme map has 0 photos, needs at least 1: tag photos first")
    for name in ("tags", "thumbnails", "themes", "groups"):
        values = getattr(photos, name)
        if values is not None and len(values) != n_photos:
            raise InputError(f"theme map: len({name}) == {len(values)}, must be {n_photos}: give one entry per photo")
    _check_themes(photos)
    for name, jpeg in zip(photos.names, photos.thumbnails, strict=True):
        if jpeg and not jpeg.startswith(_JPEG_START):
            raise InputError(f"thumbnail of photo {name!r} starts with {jpeg[:4]!r}, must be a JPEG: convert it first")


def _check_themes(photos: MapPhotos) -> None:
    n_themes = len(photos.theme_names)
    invalid = np.flatnonzero((photos.themes < NO_THEME) | (photos.themes >= n_themes))
    if invalid.size:
        raise InputError(
            f"theme of photo {photos.names[invalid[0]]!r} is {photos.themes[invalid[0]]}, must be in "
            f"{NO_THEME}..{n_themes - 1}: give themes and theme_names of the same theme model"
        )


def _check_shape(name: str, values: NDArray[Any], n_photos: int) -> None:
    if values.ndim != 2 or len(values) != n_photos or values.shape[1] == 0:
        raise InputError(
            f"{name} have shape {values.shape}, must be ({n_photos}, at least 1): "
            "give one row per photo, in the order of the photos"
        )


def _unit_rows(name: str, features: NDArray[Any], n_photos: int) -> NDArray[np.float64]:
    """Scale every row to length 1, so that the nearest rows are those of the highest cosine; rows of zeros stay."""
    _check_shape(f"features of treatment {name!r}", features, n_photos)
    rows = features.astype(np.float64)
    invalid = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if invalid.size:
        value = next(value for value in rows[invalid[0]] if not np.isfinite(value))
        raise InputError(
            f"features of treatment {name!r} hold {value} in row {invalid[0]}, must be finite (not finite: "
            f"{invalid.size:,} of {n_photos:,} rows): leave these photos out or recompute their features"
        )
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)  # else squares of tiny values underflow
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=rows, where=lengths > 0)


def _layout(rows: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return positions by t-SNE; a regular pattern if there are too few photos or all have equal features."""
    n_photos = len(rows)
    if n_photos < _MIN_PHOTOS_FOR_TSNE or _all_rows_equal(rows):
        return _sunflower(n_photos)
    components = PCA(min(_COMPONENTS, *rows.shape), random_state=seed).fit_transform(rows)
    perplexity = min(_PERPLEXITY, (n_photos - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init=_initial_positions(components, seed), random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit_transform(components), np.float64)


def _initial_positions(components: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """Return the first two principal components, scaled to 1e-4, plus 1 % noise: else a single feature gives a line."""
    start = np.random.default_rng(seed).normal(scale=1e-6, size=(len(components), 2))
    width = min(2, components.shape[1])
    start[:, :width] += components[:, :width] / components[:, 0].std() * 1e-4
    return start.astype(np.float32)


def _push_apart(positions: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Push photos that overlap apart, pair by pair, for a fixed number of rounds."""
    min_distance = min(_DOT, _RELATIVE_DOT / len(positions) ** 0.5)
    moved = positions + np.random.default_rng(seed).normal(scale=min_distance / 100, size=positions.shape)
    for _ in range(_ROUNDS):
        first, second = KDTree(moved).query_pairs(min_distance, output_type="ndarray").T
        between = moved[first] - moved[second]
        distances = np.linalg.norm(between, axis=1, keepdims=True)
        push = between / distances * (min_distance - distances) / 2
        np.add.at(moved, first, push)
        np.subtract.at(moved, second, push)
    return moved


def _sunflower(n_photos: int) -> NDArray[np.float64]:
    """Return points spread evenly over a disc, in order from its centre; Vogel 1979."""
    order = np.arange(n_photos)
    angles = order * _GOLDEN_ANGLE
    return np.sqrt(order)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


def _scale_to_unit_disc(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = positions - positions.mean(axis=0)
    farthest = np.linalg.norm(centred, axis=1).max()
    return centred / farthest if farthest > 0 else centred


def _rotate_to(positions: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation, _ = orthogonal_procrustes(positions, target)
    return positions @ rotation


def _all_rows_equal(rows: NDArray[np.float64]) -> bool:
    return bool(np.ptp(rows, axis=0).max() < 1e-9)


def _trustworthiness(features: NDArray[np.float64], positions: NDArray[np.float64]) -> float | None:
    """Return the trustworthiness of Venna and Kaski 2001, eq. 4, over the photos that have a feature."""
    featured = features.any(axis=1)
    n_neighbours = min(_NEIGHBOURS, (int(featured.sum()) - 1) // 2)
    if n_neighbours < 1 or _all_rows_equal(features[featured]):
        return None
    return float(trustworthiness(features[featured], positions[featured], n_neighbors=n_neighbours))


def _nearest_neighbours(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each photo's nearest neighbours in the map, shape (n_photos, at most 10)."""
    n_neighbours = min(_NEIGHBOURS, len(positions) - 1)
    if n_neighbours == 0:
        return np.empty((len(positions), 0), np.int64)
    neighbours = NearestNeighbors(n_neighbors=n_neighbours).fit(positions).kneighbors(return_distance=False)
    return np.asarray(neighbours, np.int64)


def _agreement(labels: NDArray[np.int64], neighbours: NDArray[np.int64]) -> float | None:
    labelled = labels != NO_THEME
    if not labelled.any() or neighbours.shape[1] == 0:
        return None
    return float((labels[neighbours] == labels[:, None])[labelled].mean())


def _agreement_by_chance(labels: NDArray[np.int64]) -> float | None:
    """Return the expected agreement at random positions: the share of equal labels among all other photos."""
    counts = np.unique(labels[labels != NO_THEME], return_counts=True)[1]
    if not counts.size or len(labels) < 2:
        return None
    return float((counts * (counts - 1)).sum() / counts.sum() / (len(labels) - 1))


def _silhouette(themes: NDArray[np.int64], positions: NDArray[np.float64]) -> float | None:
    """Return the mean silhouette of Rousseeuw 1987 over the photos that have a theme."""
    themed = themes != NO_THEME
    n_themes = len(np.unique(themes[themed]))
    if not 2 <= n_themes < themed.sum():
        return None
    return float(silhouette_score(positions[themed], themes[themed]))


def _number_groups(groups: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
