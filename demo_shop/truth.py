"""The true utilities of the demo shop, for evaluation alone: no job and no model may read them.

A utility is the inner product of a user's tastes and a sale's traits. One-hot traits are named 'family=value'. The
pictures of sales and those of photos are tables of their own.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from demo_shop.catalogue import Catalogue
from demo_shop.vocabulary import AMENITIES, CATEGORIES, COUNTRIES, PICTURES, REGIONS
from recsys.errors import InputError

QUALITY, CONSTANT = "quality", "constant"
USER_TASTES, SALE_TRAITS, SALE_PICTURES = "user_tastes", "sale_traits", "sale_pictures"
PHOTO_PICTURES = "photo_pictures"


def sale_traits(catalogue: Catalogue) -> pd.DataFrame:
    """Return one row per sale with all traits that utilities depend on, pictures included."""
    sales = catalogue.sales
    log_price = np.log(sales["price"] / sales["price"].median()).to_numpy()
    country = [REGIONS[region].country for region in sales["region"]]
    parts = [
        _one_hot("country", pd.Index(COUNTRIES).get_indexer(pd.Index(country)), list(COUNTRIES)),
        _one_hot("region", sales["region"].to_numpy(), [region.name for region in REGIONS]),
        _one_hot("category", sales["category"].to_numpy(), [category.name for category in CATEGORIES]),
        pd.DataFrame(catalogue.amenities.astype(np.float64), columns=_trait_names("amenity", AMENITIES)),
        pd.DataFrame({"price=log": log_price, "price=log_squared": log_price**2}),
        pd.DataFrame({QUALITY: catalogue.quality, CONSTANT: 1.0}),
        pd.DataFrame(catalogue.pictures, columns=_trait_names("picture", list(PICTURES))),
    ]
    return pd.concat(parts, axis=1)


def write_truth(
    folder: Path,
    catalogue: Catalogue,
    traits: pd.DataFrame,
    user_ids: pd.Series,
    tastes: pd.DataFrame,
    photo_pictures: pd.DataFrame,
) -> None:
    """Write the tables of truth, one Parquet file each, into an existing folder.

    Args:
        folder: Where the files go.
        catalogue: All sales, with the pictures that their photos show.
        traits: What utilities depend on, one row per sale.
        user_ids: The users, in the order of `tastes`.
        tastes: Weights over the traits of a sale.
        photo_pictures: One row per photo: photo, and the share of each kind of picture.
    """
    sale_ids = catalogue.sales["sale_id"]
    pictures = pd.DataFrame(catalogue.pictures, columns=list(PICTURES))
    other = traits.drop(columns=_trait_names("picture", list(PICTURES)), errors="ignore")
    tables = {
        USER_TASTES: (user_ids, tastes),
        SALE_TRAITS: (sale_ids, other),
        SALE_PICTURES: (sale_ids, pictures),
    }
    for name, (ids, values) in tables.items():
        pd.concat([ids, values], axis=1).to_parquet(folder / f"{name}.parquet", index=False)
    photo_pictures.to_parquet(folder / f"{PHOTO_PICTURES}.parquet", index=False)


def true_utilities(folder: Path, user_ids: Sequence[str], sale_ids: Sequence[str]) -> NDArray[np.float64]:
    """Return the true utility of each sale for each user, in logits.

    Args:
        folder: The shop's folder, as given to `build_shop`.
        user_ids: Users of the shop, in any order.
        sale_ids: Sales of the shop, in any order.

    Returns:
        Shape (n_users, n_sales).

    Raises:
        InputError: If a user or a sale is not of this shop.
    """
    tastes = _read_rows(folder / "truth" / f"{USER_TASTES}.parquet", "user_id", user_ids)
    traits = _read_rows(folder / "truth" / f"{SALE_TRAITS}.parquet", "sale_id", sale_ids)
    pictures = _read_rows(folder / "truth" / f"{SALE_PICTURES}.parquet", "sale_id", sale_ids)
    traits = traits.join(pictures.add_prefix("picture="))
    return tastes.to_numpy() @ traits[tastes.columns].to_numpy().T


def _read_rows(path: Path, key: str, ids: Sequence[str]) -> pd.DataFrame:
    """Return the rows of some ids, in their order, of a Parquet file."""
    table = pd.read_parquet(path).set_index(key)
    unknown = sorted(set(ids) - set(table.index))
    if unknown:
        raise InputError(
            f"{key} {unknown[:5]} ({len(unknown)} in all) not in {path}, must be ids of this shop: ask for others, "
            "or build the shop again with the settings that they come from"
        )
    return table.loc[list(ids)]


def _trait_names(family: str, values: Sequence[str]) -> list[str]:
    return [f"{family}={value}" for value in values]


def _one_hot(family: str, positions: NDArray[np.int64], values: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(np.eye(len(values))[positions], columns=_trait_names(family, values))
