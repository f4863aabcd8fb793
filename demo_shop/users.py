"""The users of the demo shop: market, channel, activity and tastes."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.hidden_groups import group_tastes
from demo_shop.truth import CONSTANT, QUALITY
from demo_shop.vocabulary import CHANNELS, MARKETS
from recsys.config.demo_shop import DemoShopSettings

# Standard deviation of a user's utility over the sales, in logits: it sets the oracle's ndcg@10.
_TASTE_STRENGTH = 1.9
_GROUP_STRENGTH = 0.7
# Shares, by variance, of the part of taste that pictures do not explain.
_METADATA_SHARES = {"country": 0.15, "region": 0.2, "category": 0.35, "amenity": 0.15, "price": 0.15}
# Shares of a taste for a region, a category or an amenity that are common to all users and to those of one persona; the
# rest is the user's own.
_PERSONAS = 10
_COMMON_SHARE, _PERSONA_SHARE = 0.15, 0.4
_HOME_COUNTRY = 0.8
# Standard deviation of users' budgets, in log price, around the shop's median price.
_BUDGET_SPREAD = 0.5
_ACTIVITY_SPREAD = 1.1
_NEWCOMER_SHARE = 0.35
_MAX_SESSIONS_PER_DAY = 4


class Population(NamedTuple):
    """All users; row i of every part is the same user."""

    users: pd.DataFrame
    """user_id, market, channel, sessions (count in the period), joins (share of the period's traffic that has passed
    before the user may first come), one_time (whether the user has one session only), propensity (to buy, in
    logits)."""
    tastes: pd.DataFrame
    """Weights over the traits of a sale: one column per trait, with the same names."""


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
    users = users.join(_draw_activity(rng, settings))
    if settings.law == "groups":
        return Population(users, _draw_group_tastes(rng, n_users, traits))
    return Population(users, _draw_tastes(rng, settings, market, traits))


def _draw_activity(rng: np.random.Generator, settings: DemoShopSettings) -> pd.DataFrame:
    n_users = settings.users
    one_time = rng.random(n_users) < settings.one_time_share
    newcomer = ~one_time & (rng.random(n_users) < _NEWCOMER_SHARE)
    joins = np.where(newcomer, rng.random(n_users), 0.0)
    # A log-normal of mean 1: most users come seldom, a few almost daily.
    activity = rng.lognormal(-(_ACTIVITY_SPREAD**2) / 2, _ACTIVITY_SPREAD, n_users)
    expected = settings.sessions_per_week * settings.days / 7 * (1 - joins) * activity
    sessions = np.clip(rng.poisson(expected), 2, _MAX_SESSIONS_PER_DAY * settings.days)
    return pd.DataFrame({"sessions": np.where(one_time, 1, sessions), "joins": joins, "one_time": one_time})


def _draw_tastes(
    rng: np.random.Generator, settings: DemoShopSettings, market: NDArray[np.str_], traits: pd.DataFrame
) -> pd.DataFrame:
    persona = rng.integers(0, _PERSONAS, settings.users)
    tastes: dict[str, NDArray[np.float64]] = {}
    offset = np.zeros(settings.users)
    for family, share in _family_shares(settings).items():
        names = [name for name in traits.columns if name.startswith(f"{family}=")]
        if family == "price":
            raw = _draw_price_tastes(rng, settings.users)
        elif family == "picture":
            raw = rng.dirichlet(np.ones(len(names)), settings.users)
        else:
            raw = _draw_persona_tastes(rng, persona, len(names))
        if family == "country":
            raw += _HOME_COUNTRY * (np.array([f"country={m}" for m in market])[:, None] == np.array(names))
        weights, mean = _standardized(raw, traits[names].to_numpy())
        strength = _TASTE_STRENGTH * np.sqrt(share)
        tastes |= dict(zip(names, (strength * weights).T, strict=True))
        offset -= strength * mean
    return pd.DataFrame({**tastes, QUALITY: np.ones(settings.users), CONSTANT: offset})


def _draw_group_tastes(rng: np.random.Generator, n_users: int, traits: pd.DataFrame) -> pd.DataFrame:
    groups, raw = group_tastes(rng, n_users)
    weights, mean = _standardized(raw, traits[groups].to_numpy())
    tastes = pd.DataFrame(_GROUP_STRENGTH * weights, columns=groups)
    tastes[QUALITY], tastes[CONSTANT] = 1.0, -_GROUP_STRENGTH * mean
    return tastes


def _family_shares(settings: DemoShopSettings) -> dict[str, float]:
    metadata_share = 1 - settings.picture_taste_share
    shares = {family: metadata_share * share for family, share in _METADATA_SHARES.items()}
    return {**shares, "picture": settings.picture_taste_share}


def _draw_persona_tastes(rng: np.random.Generator, persona: NDArray[np.int64], n_names: int) -> NDArray[np.float64]:
    """Draw tastes that are partly common to all users and partly to those of a persona."""
    common = rng.standard_normal(n_names)
    shared = rng.standard_normal((_PERSONAS, n_names))[persona]
    own = rng.standard_normal((len(persona), n_names))
    own_share = 1 - _COMMON_SHARE - _PERSONA_SHARE
    return np.sqrt(_COMMON_SHARE) * common + np.sqrt(_PERSONA_SHARE) * shared + np.sqrt(own_share) * own


def _draw_price_tastes(rng: np.random.Generator, n_users: int) -> NDArray[np.float64]:
    """Return -(log price - budget)² / 2, without its constant, as weights of the log price and of its square."""
    budget = rng.normal(0, _BUDGET_SPREAD, n_users)
    return np.column_stack([budget, np.full(n_users, -0.5)])


def _standardized(
    weights: NDArray[np.float64], traits: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights scaled so that the mean variance of a user's utility over the sales is 1.

    Returns:
        The weights, and each user's mean utility by them.
    """
    covariance = np.cov(traits, rowvar=False)
    variance = np.einsum("uf,fg,ug->u", weights, covariance, weights, optimize=True)
    scaled = weights / np.sqrt(variance.mean())
    return scaled, scaled @ traits.mean(axis=0)
