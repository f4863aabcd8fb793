"""training_examples → arrays in memory, in the order of the table's key."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.meta_model.training import Examples
from recsys.storage.places import Place
from recsys.tables.night import TRAINING_EXAMPLES
from recsys.tables.parts import read_arrow

_IDS = ["user_id", "sale_id"]


def read_examples(table: Place) -> pa.Table:
    """Return table `training_examples` of a folder in order, see `in_order`: about 100 bytes per row and 18 features.

    Sums of floats depend on their order, so that a model depends on that of its examples.
    """
    return in_order(read_arrow(table, as_dictionary=_IDS))


def in_order(table: pa.Table) -> pa.Table:
    """Return rows of table `training_examples` ordered by as_of, user and sale; ids are dictionary-encoded."""
    ranks = []
    for name in _IDS:
        column = table[name] if pa.types.is_dictionary(table[name].type) else table[name].dictionary_encode()
        codes = column.unify_dictionaries().combine_chunks()
        table = table.set_column(table.schema.get_field_index(name), name, codes)
        ranks.append(_ranks(codes))
    users, sales = ranks
    return table.take(pa.array(np.lexsort((sales, users, table["as_of"].to_numpy()))))


def _ranks(codes: pa.DictionaryArray) -> NDArray[np.uint64]:
    """Return the rank of each value among the distinct ones."""
    return pc.rank(codes.dictionary).to_numpy()[codes.indices.to_numpy()]


def examples_of(table: pa.Table) -> Examples:
    """Return rows in order, from `read_examples`, as arrays; some of the rows may be filtered out."""
    names = [name for name in table.column_names if name not in TRAINING_EXAMPLES.columns]
    features = np.empty((len(names), len(table)), np.float32)
    for feature, name in zip(features, names, strict=True):
        feature[:] = table[name]
    return Examples(
        names,
        features=features.T,
        bought=table["bought"].to_numpy(),
        sampling_rate=table["sampling_rate"].to_numpy(),
        repeat=table["repeat"].to_numpy(),
        position=table["position"].to_numpy(),
        page=np.cumsum(_begins_page(table)) - 1,
    )


def pages_of(table: pa.Table) -> pa.Table:
    """Return as_of and user_id of each page, one row per number in `Examples.page`."""
    return table.select(["as_of", "user_id"]).filter(pa.array(_begins_page(table)))


def _begins_page(table: pa.Table) -> NDArray[np.bool_]:
    """Return whether each row is the first of its user and day."""
    begins = np.ones(len(table), bool)
    as_of, user = table["as_of"].to_numpy(), table["user_id"].combine_chunks().indices.to_numpy()
    begins[1:] = (np.diff(as_of) != 0) | (np.diff(user) != 0)
    return begins
