"""Photos and themes: the themes of the last night, with photos of the sales that are served."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.images.themes.themes import THEME_MODEL, ThemeModel
from recsys.storage.journal import leased
from tests.helpers.console_shop import ConsoleShop

MODEL = ThemeModel(
    version="v1",
    fingerprint="f",
    as_of=0,
    tagger_version="t",
    tags=["<b>pool</b>", "palm", "castle"],
    ids=[4, 9],
    next_id=10,
    names=["Pools <i>", "Castles"],
    components=[[3.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    scales=[1.0, 1.0],
    shares=[0.75, 0.25],
)


def themes_of(shop: ConsoleShop, rows: list[tuple[str, int, list[float] | None]]) -> None:
    """Write the themes of a night and the weights of photos."""
    folder = shop.folder / "nights" / "20260301T000000Z"
    data = folder / "data" / "build_themes"
    (data / "image_themes").mkdir(parents=True)
    (data / THEME_MODEL).write_text(MODEL.to_json())
    sales, positions, weights = zip(*rows, strict=True)
    columns = {
        "sale_id": pa.array(sales),
        "position": pa.array(positions, pa.int32()),
        "image_uri": pa.array([""] * len(rows)),
        "weights": pa.array(weights, pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), data / "image_themes" / "part-0.parquet")
    with leased(folder) as lease:
        outputs = [THEME_MODEL, "image_themes"]
        lease.add({"step": "build_themes", "summary": "", "data": "data/build_themes", "outputs": outputs})


def test_shop_without_themes_is_told_so(shop: ConsoleShop) -> None:
    assert "found no themes" in shop.console().get("/photos").text


def test_photos_of_the_served_sales_are_by_weight_one_per_sale(tmp_path: Path) -> None:
    with ConsoleShop.made(tmp_path) as shop:
        with_photos = [sale for sale in shop.night.sales if len(sale.images) > 1][:3]
        one, two, three = (sale.sale_id for sale in with_photos)
        rows: list[tuple[str, int, list[float] | None]] = [
            (one, 0, [0.5, 0.1]),
            (one, 1, [0.9, 0.0]),
            (two, 0, [0.7, 0.2]),
            (three, 0, [0.1, 0.2]),
            (three, 99, [9.0, 0.0]),  # the snapshot's sale has no such photo
            (two, 1, None),  # it was not tagged
            ("gone", 0, [8.0, 0.0]),
        ]
        themes_of(shop, rows)
        html = shop.console().get("/photos").text
    sections = html.split('<section class="card theme"')[1:]
    by_name = {re.findall(r'aria-label="([^"]*)"', section)[0]: section for section in sections}
    pools, castles = by_name["Pools &lt;i&gt;"], by_name["Castles"]
    assert re.findall(r'src="/photos/([^"]+)/small"', pools) == [f"{one}/1", f"{two}/0"]
    assert re.findall(r'src="/photos/([^"]+)/small"', castles) == [f"{three}/0"]
    assert re.findall(r'<th scope="row">([^<]+)</th>', pools) == ["&lt;b&gt;pool&lt;/b&gt;", "palm"]
    assert re.findall(r'class="number">([^<]+)%<', pools) == ["75", "25"]
    assert "75% of all photos" in pools
