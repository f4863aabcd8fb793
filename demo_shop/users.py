"""The users: where they come from, how often they come and what they like."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.truth import CONSTANT, QUALITY
from demo_shop.vocabulary import CHANNELS, MARKETS
from recsys.config.demo_shop import DemoShopSettings

# Standard deviation of a user's utility over the sales, in logits: sets how well an oracle can do.
_TASTE_STRENGTH = 1.9
# How the part of taste that pictures do not explain divides, by variance.
_METADATA_SHARES = {"country": 0.15, "region": 0.2, "category": 0.35, "amenity": 0.15, "price": 0.15}
# How a taste for a place, a kind of stay or an amenity divides into what all users share, what the users of
# one persona share, and his own.
_PERSONAS = 10
_COMMON_SHARE, _PERSONA_SHARE = 0.15, 0.4
_HOME_COUNTRY = 0.8
# Of the log price, around the shop's median.
_BUDGET_SPREAD = 0.5
_ACTIVITY_SPREAD = 1.1
_NEWCOMER_SHARE = 0.35
_MAX_SESSIONS_A_DAY = 4


class Population(NamedTuple):
    """All users; row i of every part is the same user."""

    users: pd.DataFrame
    """user_id, market, channel, sessions (count in the period), joins (share of the period's traffic that
    has passed when he may first come), one_time (whether he comes in one session only), propensity (to buy,
    in logits)."""
    tastes: pd.DataFrame
    """Weights over the traits of a sale: a column each, named as in the traits."""


def build_population(rng: np.random.Generator, settings: DemoShopSettings, traits: pd.DataFrame) -> Population:
    """Draw the users and their tastes over the traits of the catalogue."""
    n_users = settings.users
    market = rng.choice(list(MARKETS), n_users, p=list(MARKETS.values()))
    users = pd.DataFrame(
        {
            "user_id": [f"u-{number:05d}" for number in range(1, n_users + 1)],
            "market": market,
            "channel": rng.choice(list(CHANNELS), n_users, p=list(CHANNELS.values())),
            "propensity": rng.normal(0, 0.5, n_users),
        }
    )
    return Population(users.join(_activity(rng, settings)), _tastes(rng, settings, market, traits))


def _activity(rng: np.random.Generator, settings: DemoShopSettings) -> pd.DataFrame:
    n_users = settings.users
    one_time = rng.random(n_users) < settings.one_time_share
    newcomer = ~one_time & (rng.random(n_users) < _NEWCOMER_SHARE)
    joins = np.where(newcomer, rng.random(n_users), 0.0)
    # A log-normal of mean 1: most come seldom, a few almost every day.
    activity = rng.lognormal(-(_ACTIVITY_SPREAD**2) / 2, _ACTIVITY_SPREAD, n_users)
    expected = settings.sessions_per_week * settings.days / 7 * (1 - joins) * activity
    sessions = np.clip(rng.poisson(expected), 2, _MAX_SESSIONS_A_DAY * settings.days)
    return pd.DataFrame({"sessions": np.where(one_time, 1, sessions), "joins": joins, "one_time": one_time})


def _tastes(
    rng: np.random.Generator, settings: DemoShopSettings, market: NDArray[np.str_], traits: pd.DataFrame
) -> pd.DataFrame:
    persona = rng.integers(0, _PERSONAS, settings.users)
    tastes: dict[str, NDArray[np.float64]] = {}
    offset = np.zeros(settings.users)
    for family, share in _family_shares(settings).items():
        names = [name for name in traits.columns if name.startswith(f"{family}=")]
        if family == "price":
            raw = _budget_tastes(rng, settings.users)
        elif family == "picture":
            raw = rng.dirichlet(np.ones(len(names)), settings.users)
        else:
            raw = _persona_tastes(rng, persona, len(names))
        if family == "country":
            raw += _HOME_COUNTRY * (np.array([f"country={m}" for m in market])[:, None] == np.array(names))
        weights, mean = _standardized(raw, traits[names].to_numpy())
        strength = _TASTE_STRENGTH * np.sqrt(share)
        tastes |= dict(zip(names, (strength * weights).T, strict=True))
        offset -= strength * mean
    return pd.DataFrame({**tastes, QUALITY: np.ones(settings.users), CONSTANT: offset})


def _family_shares(settings: DemoShopSettings) -> dict[str, float]:
    metadata_share = 1 - settings.picture_taste_share
    shares = {family: metadata_share * share for family, share in _METADATA_SHARES.items()}
    return {**shares, "picture": settings.picture_taste_share}


def _persona_tastes(rng: np.random.Generator, persona: NDArray[np.int64], n_names: int) -> NDArray[np.float64]:
    """Draw tastes that users partly share: some sales please most, and some users resemble each other."""
    common = rng.standard_normal(n_names)
    shared = rng.standard_normal((_PERSONAS, n_names))[persona]
    own = rng.standard_normal((len(persona), n_names))
    own_share = 1 - _COMMON_SHARE - _PERSONA_SHARE
    return np.sqrt(_COMMON_SHARE) * common + np.sqrt(_PERSONA_SHARE) * shared + np.sqrt(own_share) * own


def _budget_tastes(rng: np.random.Generator, n_users: int) -> NDArray[np.float64]:
    """Write -(log price - budget)² / 2, less its constant, as weights of the log price and of its square."""
    budget = rng.normal(0, _BUDGET_SPREAD, n_users)
    return np.column_stack([budget, np.full(n_users, -0.5)])


def _standardized(
    weights: NDArray[np.float64], traits: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scale weights so that a user's utility has variance 1 over the sales, on average over the users.

    Returns:
        The weights, and each user's mean utility under them.
    """
    covariance = np.cov(traits, rowvar=False)
    variance = np.einsum("uf,fg,ug->u", weights, covariance, weights, optimize=True)
    scaled = weights / np.sqrt(variance.mean())
    return scaled, scaled @ traits.mean(axis=0)
