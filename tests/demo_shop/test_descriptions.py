import pandas as pd

from demo_shop.vocabulary import AMENITIES, PICTURES


def test_every_description_names_its_region_and_its_country(shop):
    for row in shop.sales.itertuples():
        assert row.region in row.body_text
        assert row.country in row.body_text


def test_a_description_names_exactly_the_amenities_that_users_value(shop):
    traits = pd.read_parquet(shop.folder / "truth/sale_traits.parquet").set_index("sale_id")
    texts = shop.sales.set_index("offer_id")["body_text"]
    for amenity in AMENITIES:
        named = texts.str.contains(amenity, regex=False)
        assert (named == (traits[f"amenity={amenity}"] == 1)).all(), amenity


def test_about_a_quarter_of_the_descriptions_mention_their_leading_picture(shop):
    pictures = pd.read_parquet(shop.folder / "truth/sale_pictures.parquet").set_index("sale_id")
    sentences = pictures.idxmax(axis=1).map(PICTURES)
    texts = shop.sales.set_index("offer_id")["body_text"]
    told = [sentence in text for sentence, text in zip(sentences, texts, strict=True)]
    assert 0.2 < sum(told) / len(told) < 0.3


def test_texts_have_no_unfilled_placeholder_and_start_with_a_capital(shop):
    texts = pd.concat([shop.sales["headline"], shop.sales["body_text"]])
    assert not texts.str.contains("[{}]").any()
    assert texts.str[0].str.isupper().all()
    assert shop.sales["headline"].nunique() > len(shop.sales) / 3
