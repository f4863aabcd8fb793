from google.protobuf.timestamp_pb2 import Timestamp
from recommendations.v1 import recommendations_pb2 as pb

from recsys.images.tagging.files import PhotoFiles
from tests.helpers.small_photos import write_photo
from workbench.page import Page

SALES = [
    pb.RankedSale(
        sale_id="s1",
        rank=1,
        title="<b>Linen</b>",
        score=0.5,
        probability=0.0321,
        image_uri="red.png",
        reason_text="Popular today",
        close_time=Timestamp(seconds=1_772_323_200),
        contributions=[pb.Contribution(feature="popularity", log_odds=0.25)],
    ),
    pb.RankedSale(sale_id="s2", rank=2, title="Wool", image_uri="missing.png"),
]


def page_of(*sales: pb.RankedSale, root: str = "", **fields: object) -> Page:
    level = pb.FALLBACK_LEVEL_NONE
    answer = pb.GetTopSalesResponse(sales=sales, policy="meta", snapshot="n1", fallback_level=level, **fields)
    return Page("u1", answer, PhotoFiles(root))


def test_sales_are_a_frame_in_which_what_is_not_known_is_missing():
    frame = page_of(*SALES).sales
    assert frame[["rank", "sale_id"]].values.tolist() == [[1, "s1"], [2, "s2"]]
    assert frame["score"].tolist()[0] == 0.5
    assert frame[["score", "probability"]].isna().values.tolist() == [[False, False], [True, True]]
    assert str(frame["closes_at"][0]) == "2026-03-01 00:00:00+00:00"


def test_contributions_are_a_frame_by_sale_and_feature():
    assert page_of(SALES[0]).contributions.loc["s1", "popularity"] == 0.25
    assert page_of(SALES[1]).contributions.empty


def test_page_is_shown_with_thumbnails_and_without_the_markup_of_titles(tmp_path):
    write_photo(tmp_path / "red.png", (255, 0, 0))
    html = page_of(*SALES, root=str(tmp_path), notes=["Mind & see"])._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 1
    assert "&lt;b&gt;Linen&lt;/b&gt;" in html
    assert "3.21 %" in html
    assert "Mind &amp; see" in html
    assert "user u1 · policy meta" in html


def test_page_without_sales_is_shown_with_its_reason():
    page = page_of(shortfall_reason="No sale is open.")
    assert repr(page).endswith("no sales")
    assert "No sale is open." in page._repr_html_()
    assert page.sales.empty
