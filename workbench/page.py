"""A user's page, as a frame and as a picture."""

from dataclasses import dataclass
from functools import cached_property

import jinja2
import pandas as pd
from recommendations.v1 import recommendations_pb2 as pb

from recsys.images.tagging.files import PhotoFiles
from recsys.reports.album import Album
from serving.origin import origin

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("workbench", "."), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


@dataclass(frozen=True, eq=False)
class Page:
    """A user's page; a notebook shows it with its photos."""

    user_id: str
    response: pb.GetTopSalesResponse
    """The answer, as `proto/recommendations/v1/recommendations.proto` describes it."""
    photos: PhotoFiles

    @cached_property
    def sales(self) -> pd.DataFrame:
        """The sales, best first: rank, sale_id, title, score, probability, closes_at, reason, image_uri."""
        rows = [
            {
                "rank": sale.rank,
                "sale_id": sale.sale_id,
                "title": sale.title,
                "score": sale.score if sale.HasField("score") else None,
                "probability": sale.probability if sale.HasField("probability") else None,
                "closes_at": pd.Timestamp(sale.close_time.ToNanoseconds(), tz="UTC"),
                "reason": sale.reason_text,
                "image_uri": sale.image_uri or None,
            }
            for sale in self.response.sales
        ]
        return pd.DataFrame(rows)

    @cached_property
    def contributions(self) -> pd.DataFrame:
        """What each feature adds to the log-odds of each sale, by sale_id; empty unless `explain` was asked for."""
        rows = {sale.sale_id: {each.feature: each.log_odds for each in sale.contributions} for sale in self._sales}
        return pd.DataFrame.from_dict(rows, "index").rename_axis("sale_id")

    @property
    def _sales(self) -> list[pb.RankedSale]:
        return list(self.response.sales)

    def __repr__(self) -> str:
        """Return the page as text."""
        sales = self.sales[["rank", "sale_id", "title", "reason"]] if self._sales else "no sales"
        return f"{origin(self.user_id, self.response)}\n{sales}"

    def _repr_html_(self) -> str:
        """Return the page as HTML, each photo as a thumbnail in it."""
        album = Album(self.photos, [sale.image_uri for sale in self._sales if sale.image_uri])
        at = [album.index(sale.image_uri) for sale in self._sales]
        thumbnails = album.photos
        cards = [
            {
                "rank": sale.rank,
                "sale_id": sale.sale_id,
                "title": sale.title,
                "reason": sale.reason_text,
                "probability": sale.probability if sale.HasField("probability") else None,
                "photo": None if place is None else thumbnails[place],
            }
            for sale, place in zip(self._sales, at, strict=True)
        ]
        remarks = (self.response.fallback_reason, *self.response.notes, self.response.shortfall_reason)
        notes = [note for note in remarks if note]
        return _TEMPLATES.get_template("page.html").render(
            title=origin(self.user_id, self.response), cards=cards, notes=notes
        )
