"""Evidence of a shop's own, for whole nights and backtests."""

import numpy as np

from recsys.recommenders.further import Evidence


class SameCountry(Evidence):
    """The number of the user's events with sales of the same country."""

    name = "same_country"
    words = "The user's events with sales of the same country."

    def __init__(self, attribute: str):
        self.attribute = attribute

    def fit(self, statistics, horizon, catalogue):  # noqa: ARG002
        countries = [attributes.get(self.attribute, "") for attributes in catalogue.attributes]
        return {"countries": np.unique(countries, return_inverse=True)[1]}

    def score(self, histories, horizon, arrays):
        countries = arrays["countries"]
        events = np.zeros((len(histories), countries.max() + 1), np.float32)
        np.add.at(events, (histories.user_of_event(), countries[histories.sales]), 1)
        return events[:, countries[horizon.sales]]
