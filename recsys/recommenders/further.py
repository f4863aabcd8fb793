"""Further kinds of evidence: classes in modules of a shop's own, which the configuration names."""

import inspect
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, ModelError
from recsys.recommenders.base import Model, Statistics
from recsys.settings import StepSettings, digest
from recsys.shop.catalogue import Catalogue, Horizon
from recsys.shop.histories import Histories

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Evidence(ABC):
    """A kind of evidence that a shop adds; `docs/recommenders.md` shows one.

    Its score becomes one more feature of the meta-model: it is fitted, scored by night and by day, ablated, explained
    and served as all others are. `recsys.testing.RecommenderContract` tests that it keeps what is promised here.
    """

    name: ClassVar[str]
    """Name of the feature: small letters, digits and _."""
    words: ClassVar[str]
    """A sentence about the feature, for reports."""
    scale: ClassVar[float] = 0.0
    """The feature is log(1 + scale * score), or the score itself if it is 0; if above 0, scores are not negative."""
    is_personal: ClassVar[bool] = True
    """Whether scores differ between users."""
    is_relative: ClassVar[bool] = True
    """Whether scores differ between sales; the feature is then their difference from the mean of the open sales."""

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return sums over a block of users, which are added up over all blocks; none if it learns from sales alone.

        Returns:
            Sums by sale: arrays of float32, shape (n_sales,), of the same names for every block, also for one without
            users. A refresh extends them by the sales that were added.
        """
        return {}

    @abstractmethod
    def fit(self, statistics: Statistics, horizon: Horizon, catalogue: Catalogue) -> dict[str, np.ndarray]:
        """Return all that `score` needs of the sales and of other users, as arrays without Python objects.

        Args:
            statistics: The sums over all users; to be left as they are.
            horizon: The sales to score; `horizon.sales` are their positions in the catalogue.
            catalogue: All sales, with their texts and attributes, which `score` does not have.
        """

    @abstractmethod
    def score(self, histories: Histories, horizon: Horizon, arrays: Mapping[str, np.ndarray]) -> NDArray[np.floating]:
        """Return the scores of all sales of the horizon for a block of users, one user or thousands.

        Args:
            histories: What is known of the users.
            horizon: The sales.
            arrays: From `fit`.

        Returns:
            Shape (n_users, n_horizon), finite; (1, n_horizon) serves for all users alike.
        """


class FurtherSettings(StepSettings):
    """A kind of evidence of the shop's own."""

    class_path: str
    """Module and class, such as `my_shop.evidence.SameBrand`: in the working folder, on PYTHONPATH, or installed."""
    init_args: dict[str, Any] = {}
    """Arguments of the class."""

    def __hash__(self) -> int:
        """Return the hash of a value, as all settings have one: tables are cached by them."""
        return hash(digest(self))


@dataclass(frozen=True)
class Further:
    """Evidence as a recommender."""

    evidence: Evidence
    catalogue: Catalogue

    @property
    def name(self) -> str:
        """Name of the evidence."""
        return self.evidence.name

    @property
    def counted_by(self) -> str:
        """Its own name."""
        return self.evidence.name

    @property
    def scale(self) -> float:
        """The scale of scores in the logarithm."""
        return self.evidence.scale

    @property
    def is_personal(self) -> bool:
        """Whether scores differ between users."""
        return self.evidence.is_personal

    @property
    def is_relative(self) -> bool:
        """Whether scores differ between sales."""
        return self.evidence.is_relative

    def count(self, histories: Histories, horizon: Horizon) -> Statistics:
        """Return the sums over a block of users.

        Raises:
            ModelError: If they are not by sale, or not float32.
        """
        found = self.evidence.count(histories, horizon)
        for name, sums in found.items():
            if sums.shape != (histories.n_sales,) or sums.dtype != np.float32:
                rule = f"must be float32 ({histories.n_sales},), one per sale of the catalogue"
                raise ModelError(f"{self.name}: count returned {name} as {sums.dtype} {sums.shape}, {rule}")
        return found

    def fit(self, statistics: Statistics, horizon: Horizon) -> "FurtherModel":
        """Return the evidence as of the horizon's instant."""
        return FurtherModel(self.evidence, horizon, self.evidence.fit(statistics, horizon, self.catalogue))

    def load(self, arrays: Mapping[str, np.ndarray], horizon: Horizon) -> "FurtherModel":
        """Return the evidence of its arrays."""
        return FurtherModel(self.evidence, horizon, arrays)


@dataclass(frozen=True)
class FurtherModel(Model):
    """Evidence as of an instant."""

    evidence: Evidence
    horizon: Horizon
    fitted: Mapping[str, np.ndarray]

    @property
    def n_horizon(self) -> int:
        """Number of sales of the horizon."""
        return len(self.horizon)

    def write(self, histories: Histories, features: NDArray[np.float32], number: int) -> None:
        """Write the scores.

        Raises:
            ModelError: If they have another shape, or are not finite.
        """
        found = np.asarray(self.evidence.score(histories, self.horizon, self.fitted))
        if found.ndim != 2 or found.shape[1] != self.n_horizon or found.shape[0] not in (1, len(histories)):
            shape = f"({len(histories)}, {self.n_horizon})"
            raise ModelError(f"{self.evidence.name}: score returned shape {found.shape}, must be {shape}")
        if not np.isfinite(found).all():
            raise ModelError(f"{self.evidence.name}: score returned values that are not finite, must return numbers")
        features[:, number] = found

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what the evidence was fitted to."""
        return dict(self.fitted)


def further_evidence(settings: Iterable[FurtherSettings], taken: Iterable[str]) -> list[Evidence]:
    """Return the evidence that the configuration names.

    Args:
        settings: Of each kind of evidence.
        taken: The names of other recommenders.

    Raises:
        ConfigurationError: If a class cannot be imported, is no Evidence, refuses its arguments, or has a bad name.
    """
    found: list[Evidence] = []
    names = set(taken)
    for each in settings:
        evidence = _made(each)
        name = evidence.name
        if not _NAME.fullmatch(name) or name in names:
            rule = "must be small letters, digits and _, and the name of no other recommender"
            raise ConfigurationError(f"{each.class_path}.name == {name!r}, {rule}")
        names.add(name)
        found.append(evidence)
    return found


def words_of(settings: Iterable[FurtherSettings]) -> dict[str, str]:
    """Return the sentence about each kind of evidence, by its name."""
    return {evidence.name: evidence.words for evidence in further_evidence(settings, ())}


def sources(settings: Iterable[FurtherSettings]) -> list[str]:
    """Return a digest of the module of each kind of evidence: what was fitted by other code is fitted again."""
    files = (inspect.getsourcefile(_class_of(each)) for each in settings)
    return [digest(Path(file).read_text("utf-8")) if file else "" for file in files]


def _made(settings: FurtherSettings) -> Evidence:
    kind = _class_of(settings)
    try:
        return kind(**settings.init_args)
    except TypeError as error:
        given = ", ".join(settings.init_args) or "none"
        raise ConfigurationError(
            f"recommenders.further: {settings.class_path} refuses the arguments {given} ({error}): correct init_args"
        ) from error


def _class_of(settings: FurtherSettings) -> type[Evidence]:
    where = f"recommenders.further: class_path == {settings.class_path!r}"
    module, _, name = settings.class_path.rpartition(".")
    folder = os.getcwd()  # noqa: PTH109  a command that is installed does not look there
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"{where} cannot be imported ({error}): must be module.Class, in the working folder or on PYTHONPATH"
        ) from error
    if not (isinstance(kind, type) and issubclass(kind, Evidence)):
        raise ConfigurationError(f"{where} is no class of evidence, must extend recsys.recommenders.further.Evidence")
    if missing := [member for member in ("name", "words") if not hasattr(kind, member)]:
        raise ConfigurationError(f"{where} has no {' and no '.join(missing)}, must say how it is called and what it is")
    return kind
