"""The map: photos in two dimensions under several treatments, as one HTML page that needs no network."""

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
_PERPLEXITY = 30  # scikit-learn's default; t-SNE wants three times as many photos
_COMPONENTS = 50  # PCA before t-SNE, as scikit-learn advises; van der Maaten and Hinton 2008, sec. 4.2, took 30
_FEWEST_FOR_TSNE = 4
_DOT = 0.02  # width of a photo's dot on a map of radius 1
_GAP = 0.5  # the same in units of 1 / √n_photos, for many photos: their dots cover some twelfth of the map
_ROUNDS = 50
_GOLDEN_ANGLE = np.pi * (3 - 5**0.5)
_JPEG_START = b"\xff\xd8"


@dataclass(frozen=True)
class MapPhotos:
    """The photos on the map; every list has one entry a photo, in the same order."""

    names: list[str]  # what people call the photo, shown as text whatever it holds
    tags: list[list[str]]  # strongest first
    thumbnails: list[bytes]  # small JPEGs; empty: no picture. The page is their size × 4/3
    themes: NDArray[np.int64]  # (n_photos,), strongest theme as position in theme_names; NO_THEME where none
    theme_names: list[str]
    groups: list[str] | None = None  # what the shop says of the photo, independent of themes


@dataclass(frozen=True)
class Quality:
    """How good a map is; None where it cannot be told, as with one theme or two photos."""

    trustworthiness: float | None  # in [0, 1], 0.5 by chance: were neighbours in the map neighbours in the features
    same_theme: float | None  # in [0, 1]: share of the 10 nearest in the map with the same strongest theme
    same_theme_by_chance: float | None
    silhouette: float | None  # in [-1, 1], of themes in the map
    same_group: float | None  # as same_theme, of what the shop says; unlike it, favours no treatment
    same_group_by_chance: float | None


@dataclass(frozen=True)
class Treatment:
    """One way to turn photos into features, drawn as a map."""

    name: str
    positions: NDArray[np.float64]  # (n_photos, 2), centred, the farthest photo at distance 1
    quality: Quality


def theme_map(photos: MapPhotos, treatments: Mapping[str, NDArray[np.float32]], seed: int = 0) -> list[Treatment]:
    """Lay out the photos once a treatment by t-SNE, and measure each map.

    Two photos are near where the cosine of their features is high. Every map is turned and mirrored to lie as near as
    it can to the first, since t-SNE leaves that to chance and people compare the maps. Runs on one thread: the same
    input gives the same map on any number of cores. Photos nearer to each other than a dot's width are pushed apart:
    t-SNE puts photos of equal features on one spot, as are all that show a single theme.

    Args:
        photos: A few thousand at most: measuring needs memory of n_photos² × 24 bytes.
        treatments: Features by the treatment's name, shape (n_photos, n_features), any scale. A row of zeros is a photo
            that has no feature, and is left out of trustworthiness.
        seed: Of t-SNE and of the reduction to 50 dimensions before it.

    Raises:
        EmptyInputError: If there is no photo or no treatment.
        InputError: If photos or features do not belong together, or a feature is not a finite number.

    Source:
        van der Maaten and Hinton 2008; PCA start as Kobak and Berens 2019. Perplexity is 30, or a third of the others
        where there are fewer than 91 photos.
    """
    _check_photos(photos)
    if not treatments:
        raise EmptyInputError("the theme map has 0 treatments, needs at least 1: give features of the photos")
    directions = {name: _directions(name, features, len(photos.names)) for name, features in treatments.items()}
    with threadpool_limits(1):
        layouts = {name: _scaled(_parted(_scaled(_layout(rows, seed)), seed)) for name, rows in directions.items()}
        first = next(iter(layouts.values()))
        return [
            Treatment(name, _turned(layout, first), map_quality(photos, directions[name], layout))
            for name, layout in layouts.items()
        ]


def map_quality(photos: MapPhotos, features: NDArray[np.float64], positions: NDArray[np.float64]) -> Quality:
    """Measure a map.

    Args:
        photos: Themes and groups are looked at. Photos without a theme have no share of neighbours of their own, and as
            neighbours count as another theme.
        features: Shape (n_photos, n_features), rows of length 1 or 0.
        positions: Shape (n_photos, 2).
    """
    neighbours = _nearest(positions)
    groups = _numbered(photos.groups) if photos.groups is not None else np.full(len(positions), NO_THEME)
    return Quality(
        trustworthiness=_trustworthiness(features, positions),
        same_theme=_agreement(photos.themes, neighbours),
        same_theme_by_chance=_agreement_by_chance(photos.themes),
        silhouette=_silhouette(photos.themes, positions),
        same_group=_agreement(groups, neighbours),
        same_group_by_chance=_agreement_by_chance(groups),
    )


def map_page(photos: MapPhotos, treatments: Sequence[Treatment], title: str) -> str:
    """Return the map as one HTML page: it asks for nothing else, and shows every text as text.

    Raises:
        EmptyInputError: If there is no photo or no treatment.
        InputError: If photos or positions do not belong together.
    """
    _check_photos(photos)
    if not treatments:
        raise EmptyInputError("the theme map has 0 treatments, needs at least 1: call theme_map first")
    for treatment in treatments:
        _check_shape(f"positions of treatment {treatment.name!r}", treatment.positions, len(photos.names))
    template = (files(__package__) / "theme_map.html").read_text(encoding="utf-8")
    return template.replace("{{data}}", _embedded(_page_data(photos, treatments, title)))


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


def _embedded(data: dict[str, Any]) -> str:
    """Write JSON that no HTML parser sees an end tag or a comment in: `<` stands in strings alone, as an escape."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _check_photos(photos: MapPhotos) -> None:
    n_photos = len(photos.names)
    if n_photos == 0:
        raise EmptyInputError("the theme map has 0 photos, needs at least 1: tag photos first")
    for name in ("tags", "thumbnails", "themes", "groups"):
        values = getattr(photos, name)
        if values is not None and len(values) != n_photos:
            raise InputError(f"{name} of the theme map has {len(values)} entries, must be {n_photos}: give one a photo")
    _check_themes(photos)
    for name, jpeg in zip(photos.names, photos.thumbnails, strict=True):
        if jpeg and not jpeg.startswith(_JPEG_START):
            raise InputError(f"thumbnail of photo {name!r} starts with {jpeg[:4]!r}, must be a JPEG: convert it first")


def _check_themes(photos: MapPhotos) -> None:
    n_themes = len(photos.theme_names)
    wrong = np.flatnonzero((photos.themes < NO_THEME) | (photos.themes >= n_themes))
    if wrong.size:
        raise InputError(
            f"theme of photo {photos.names[wrong[0]]!r} is {photos.themes[wrong[0]]}, must be in "
            f"{NO_THEME}..{n_themes - 1}: give themes and theme_names of the same theme model"
        )


def _check_shape(name: str, values: NDArray[Any], n_photos: int) -> None:
    if values.ndim != 2 or len(values) != n_photos or values.shape[1] == 0:
        raise InputError(
            f"{name} have shape {values.shape}, must be ({n_photos}, at least 1): "
            "give one row a photo, in the photos' order"
        )


def _directions(name: str, features: NDArray[Any], n_photos: int) -> NDArray[np.float64]:
    """Scale every row to length 1, so that Euclidean distances order as cosines do; a row of zeros stays."""
    _check_shape(f"features of treatment {name!r}", features, n_photos)
    rows = features.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if wrong.size:
        value = next(value for value in rows[wrong[0]] if not np.isfinite(value))
        raise InputError(
            f"features of treatment {name!r} hold {value} in row {wrong[0]} ({wrong.size} such rows), must be finite: "
            "leave these photos out or compute their features again"
        )
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)  # or squares of tiny values vanish
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=rows, where=lengths > 0)


def _layout(rows: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Give every photo a position; side by side where features tell nothing."""
    n_photos = len(rows)
    if n_photos < _FEWEST_FOR_TSNE or _all_alike(rows):
        return _sunflower(n_photos)
    components = PCA(min(_COMPONENTS, *rows.shape), random_state=seed).fit_transform(rows)
    perplexity = min(_PERPLEXITY, (n_photos - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init=_start(components, seed), random_state=seed, n_jobs=1)
    return np.asarray(tsne.fit_transform(components), np.float64)


def _start(components: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """Start at the first two components, small; a hundredth of that is noise, or a single feature stayed a line."""
    start = np.random.default_rng(seed).normal(scale=1e-6, size=(len(components), 2))
    width = min(2, components.shape[1])
    start[:, :width] += components[:, :width] / components[:, 0].std() * 1e-4
    return start.astype(np.float32)


def _parted(positions: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Push photos apart, pair by pair, until none hides another or the rounds are over."""
    gap = min(_DOT, _GAP / len(positions) ** 0.5)
    parted = positions + np.random.default_rng(seed).normal(scale=gap / 100, size=positions.shape)
    for _ in range(_ROUNDS):
        first, second = KDTree(parted).query_pairs(gap, output_type="ndarray").T
        between = parted[first] - parted[second]
        distances = np.linalg.norm(between, axis=1, keepdims=True)
        push = between / distances * (gap - distances) / 2
        np.add.at(parted, first, push)
        np.subtract.at(parted, second, push)
    return parted


def _sunflower(n_photos: int) -> NDArray[np.float64]:
    """Spread points evenly over a disc, in their order from its centre, Vogel 1979."""
    order = np.arange(n_photos)
    angles = order * _GOLDEN_ANGLE
    return np.sqrt(order)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])


def _scaled(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = positions - positions.mean(axis=0)
    farthest = np.linalg.norm(centred, axis=1).max()
    return centred / farthest if farthest > 0 else centred


def _turned(positions: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation, _ = orthogonal_procrustes(positions, target)
    return positions @ rotation


def _all_alike(rows: NDArray[np.float64]) -> bool:
    return bool(np.ptp(rows, axis=0).max() < 1e-9)


def _trustworthiness(features: NDArray[np.float64], positions: NDArray[np.float64]) -> float | None:
    """Venna and Kaski 2001, eq. 4, over the photos that have a feature."""
    featured = features.any(axis=1)
    n_neighbours = min(_NEIGHBOURS, (int(featured.sum()) - 1) // 2)
    if n_neighbours < 1 or _all_alike(features[featured]):
        return None
    return float(trustworthiness(features[featured], positions[featured], n_neighbors=n_neighbours))


def _nearest(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return each photo's nearest others in the map, shape (n_photos, 10 or all others)."""
    n_neighbours = min(_NEIGHBOURS, len(positions) - 1)
    if n_neighbours == 0:
        return np.empty((len(positions), 0), np.int64)
    found = NearestNeighbors(n_neighbors=n_neighbours).fit(positions).kneighbors(return_distance=False)
    return np.asarray(found, np.int64)


def _agreement(labels: NDArray[np.int64], neighbours: NDArray[np.int64]) -> float | None:
    labelled = labels != NO_THEME
    if not labelled.any() or neighbours.shape[1] == 0:
        return None
    return float((labels[neighbours] == labels[:, None])[labelled].mean())


def _agreement_by_chance(labels: NDArray[np.int64]) -> float | None:
    """Return the share of equal labels among all other photos, which is that of random positions."""
    counts = np.unique(labels[labels != NO_THEME], return_counts=True)[1]
    if not counts.size or len(labels) < 2:
        return None
    return float((counts * (counts - 1)).sum() / counts.sum() / (len(labels) - 1))


def _silhouette(themes: NDArray[np.int64], positions: NDArray[np.float64]) -> float | None:
    """Rousseeuw 1987, over the photos that have a theme."""
    themed = themes != NO_THEME
    n_themes = len(np.unique(themes[themed]))
    if not 2 <= n_themes < themed.sum():
        return None
    return float(silhouette_score(positions[themed], themes[themed]))


def _numbered(groups: Sequence[str]) -> NDArray[np.int64]:
    return np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
