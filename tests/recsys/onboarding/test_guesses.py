import pytest

from recsys.config.pipeline import RawTable
from recsys.errors import ConfigurationError, InputError
from recsys.onboarding.columns import Column
from recsys.onboarding.guesses import Guess, attribute_columns, guess_columns, kind_of_rows, photo_columns, photo_root


def columns(**values: list[object]) -> list[Column]:
    return [Column(name, name, rows) for name, rows in values.items()]


def guessed(sales: list[Column], events: list[Column], given: dict[str, str] | None = None) -> dict[str, Guess]:
    return guess_columns({"sales": sales, "events": events}, given or {})


def names(guesses: dict[str, Guess]) -> dict[str, str]:
    return {key: guess.column.name for key, guess in guesses.items() if guess.column}


ARTICLES = columns(
    Artikelnr=["a1", "a2", "a3", "a4"],
    Bezeichnung=["Bett gro\u00df", "Bett klein", "Sofa", "Tisch"],
    Preis=["12,50", "3,00", "8,00", "9,00"],
    Warengruppe=["Bett", "Bett", "Sofa", "Tisch"],
)
ORDERS = columns(
    Bestellung=[1, 2, 2],
    Kundennummer=[11, 12, 11],
    Artikelnr=["a1", "a3", "a1"],
    Menge=[1, 2, 1],
    Bestelldatum=["01.03.2026", "02.03.2026", "31.03.2026"],
)


def test_names_of_another_language_are_known():
    guesses = guessed(ARTICLES, ORDERS)
    assert names(guesses) == {
        "sales.sale_id": "Artikelnr",
        "sales.title": "Bezeichnung",
        "sales.price": "Preis",
        "events.user_id": "Kundennummer",
        "events.sale_id": "Artikelnr",
        "events.occurred_at": "Bestelldatum",
        "events.quantity": "Menge",
    }
    assert all(guess.is_sure for guess in guesses.values())


@pytest.mark.parametrize(
    ("sales", "events", "expected"),
    [
        (  # a log of a shop on the web, in one file
            columns(product_id=[1, 2, 1], category_code=["a", "b", "a"], price=[1.5, 2.5, 1.5]),
            columns(
                event_time=["2019-10-01 00:00:00 UTC"] * 3,
                event_type=["view", "cart", "purchase"],
                product_id=[1, 2, 1],
                category_id=[2053013555631882655, 2053013552326770905, 2053013555631882655],
                user_id=[7, 7, 8],
            ),
            {"events.kind": "event_type", "events.sale_id": "product_id", "events.occurred_at": "event_time"},
        ),
        (  # a log with epochs, and ids that other names say
            columns(itemid=[1, 2], property=["x", "y"]),
            columns(
                timestamp=[1433221332117, 1433224214164],
                visitorid=[5, 6],
                event=["view", "addtocart"],
                itemid=[1, 2],
                transactionid=[None, 3],
            ),
            {"events.user_id": "visitorid", "events.sale_id": "itemid", "events.occurred_at": "timestamp"},
        ),
        (  # ratings of films
            columns(movieId=[1, 2], title=["Toy Story (1995)", "Jumanji"], genres=["a|b", "a"]),
            columns(userId=[1, 2], movieId=[1, 2], rating=[4.0, 3.5], timestamp=[964982703, 964981247]),
            {"sales.title": "title", "events.user_id": "userId", "events.sale_id": "movieId"},
        ),
        (  # sales with windows
            columns(offer_id=["o1", "o2"], headline=["A b", "C d"], starts=["2026-03-01"] * 2, ends=["2026-03-04"] * 2),
            columns(member=["m1", "m2"], offer=["o1", "o2"], happened_at=["2026-03-01", "2026-03-02"]),
            {"sales.opens_at": "starts", "sales.closes_at": "ends", "events.user_id": "member"},
        ),
    ],
)
def test_columns_of_known_data_sets_are_found(sales, events, expected):
    found = names(guessed(sales, events))
    assert {key: found.get(key) for key in expected} == expected


def test_ids_are_found_by_their_values_where_names_say_nothing():
    sales = columns(a=["x1", "x2", "x3"], b=["One thing", "Another", "A third"])
    events = columns(c=["p", "q", "p"], d=["x1", "x3", "x3"], e=["2026-03-01"] * 3)
    guesses = guessed(sales, events)
    assert names(guesses)["sales.sale_id"] == "a"
    assert names(guesses)["events.sale_id"] == "d"
    assert names(guesses)["events.user_id"] == "c"
    assert names(guesses)["sales.title"] == "b"
    assert not guesses["events.user_id"].is_sure
    assert not guesses["sales.title"].is_sure


def test_article_without_a_text_has_no_title():
    guesses = guessed(columns(itemid=[1, 2]), columns(user=[5, 6], itemid=[1, 2], date=["2026-03-01"] * 2))
    assert guesses["sales.title"].column is None
    assert guesses["sales.title"].is_sure


def test_session_of_an_event_is_no_title_and_a_sentence_no_kind():
    events = columns(
        event_time=["2019-10-01"] * 4,
        product_id=[1, 1, 2, 2],
        user_id=[7, 8, 7, 8],
        session=["aa", "bb", "cc", "dd"],
        text=["I like it", "I bought it for my mother", "I like it", "a view to the sea"],
    )
    guesses = guessed(events, events)
    assert guesses["sales.title"].column is None
    assert guesses["events.kind"].column is None


def test_files_without_a_header_have_users_before_sales():
    clicks = columns(
        _c0=[1, 1, 2, 3],
        _c1=["2014-04-07T10:51:09.277Z"] * 4,
        _c2=[214536502, 214536500, 214536502, 214577561],
        _c3=["0", "0", "0", "0"],
    )
    buys = columns(
        _c0=[3, 1],
        _c1=["2014-04-07T11:51:09.277Z"] * 2,
        _c2=[214577561, 214536500],
        _c3=[12462, 1046],
    )
    guesses = guess_columns({"sales": clicks, "events": clicks, "events_2": buys}, {})
    assert names(guesses) == {
        "sales.sale_id": "_c2",
        "events.user_id": "_c0",
        "events.sale_id": "_c2",
        "events.occurred_at": "_c1",
        "events_2.user_id": "_c0",
        "events_2.sale_id": "_c2",
        "events_2.occurred_at": "_c1",
    }
    assert guesses["events.sale_id"].reason == "the second column of ids, as there is no header"
    assert not guesses["events.user_id"].is_sure
    given = guess_columns({"sales": clicks, "events": clicks}, {"events.sale_id": "_c0", "events.user_id": "_c2"})
    assert names(given)["sales.sale_id"] == "_c0"
    assert given["sales.sale_id"].is_sure


def test_numbers_of_users_are_not_taken_for_those_of_sales_without_a_header():
    sales = columns(id=[1, 2, 3, 4], title=["A", "B", "C", "D"])
    ratings = columns(_c0=[1, 2, 3, 1], _c1=[4, 1, 4, 2], _c2=["2026-03-01"] * 4)
    assert names(guessed(sales, ratings))["events.sale_id"] == "_c1"
    guesses = guess_columns({"sales": sales, "events": ORDERS, "events_2": ratings}, {"events.sale_id": "Artikelnr"})
    assert names(guesses)["events_2.sale_id"] == "_c1"


def test_orders_and_sellers_are_no_users_and_products_of_other_files_are_found():
    items = columns(
        order_id=["o1", "o1", "o2"],
        order_item_id=[1, 2, 1],
        product_id=["p1", "p2", "p1"],
        seller_id=["s1", "s2", "s1"],
        shipping_limit_date=["2017-01-24 12:05:38"] * 3,
    )
    guesses = guessed(columns(product_id=["p1", "p2"], product_category_name=["bebes", "automotivo"]), items)
    assert names(guesses)["events.sale_id"] == "product_id"
    assert guesses["events.user_id"].column is None
    assert guesses["sales.title"].column is None  # a category is no title


def test_amount_of_few_whole_numbers_is_one_of_pieces():
    sales = columns(PRODUCT_ID=[471, 472])
    few = columns(CUSTOMER_ID=["01", "02"], PRODUCT_ID=[471, 472], DATE=["11/1/2000"] * 2, AMOUNT=["2", "1"])
    found = names(guessed(sales, [*few, *columns(SALES_PRICE=["30", "12"])]))
    assert found["events.quantity"] == "AMOUNT"
    assert found["events.price"] == "SALES_PRICE"
    assert "events.revenue" not in found
    money = columns(CUSTOMER_ID=["01", "02"], PRODUCT_ID=[471, 472], DATE=["11/1/2000"] * 2, AMOUNT=["20", "10"])
    assert names(guessed(sales, money))["events.revenue"] == "AMOUNT"


def test_dates_whose_day_and_month_may_be_exchanged_are_not_sure_even_if_they_are_the_only_ones():
    events = columns(user_id=[1, 2, 3], item_id=[3, 4, 3], bought=["11/1/2000", "11/2/2000", "11/3/2000"])
    guess = guessed(columns(item_id=[3, 4], title=["A", "B"]), events)["events.occurred_at"]
    assert guess.reason == "the only column that fits: M/d/yyyy, though day and month may be exchanged"
    assert not guess.is_sure


def test_value_of_something_else_is_no_revenue():
    events = columns(user_id=[1, 2], item_id=[3, 4], sent_timestamp=["2026-03-01"] * 2, freight_value=[1.5, 2.5])
    guesses = guessed(columns(item_id=[3, 4], title=["A", "B"]), events)
    assert guesses["events.revenue"].column is None
    assert guesses["events.occurred_at"].is_sure  # by a word of its name, and there is no other


def test_kinds_of_codes_are_not_sure():
    events = columns(user_id=[1, 2], item_id=[3, 4], time=["2026-03-01"] * 2, action_type=[0, 2])
    guess = guessed(columns(item_id=[3, 4], title=["A", "B"]), events)["events.kind"]
    assert (guess.column.name if guess.column else None, guess.is_sure) == ("action_type", False)


def test_given_column_is_taken_and_checked():
    guesses = guessed(
        ARTICLES, ORDERS, {"sales.title": "Warengruppe", "sales.price": "", "events.sale_id": "Artikelnr"}
    )
    assert names(guesses)["sales.title"] == "Warengruppe"
    assert guesses["sales.price"].column is None
    for given, said in (
        ({"sales.tilte": "x"}, "did you mean 'sales.title'"),
        ({"sales.title": "Bezeichnug"}, "did you mean 'Bezeichnung'"),
        ({"sales.price": "Bezeichnung"}, "its values, such as 'Bett gro\u00df'"),
        ({"events.user_id": ""}, "must be one of the columns"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            guessed(ARTICLES, ORDERS, given)


def test_number_that_stands_for_a_name_is_no_attribute_and_a_code_may_have_many_values():
    n = 400
    key = Column("id", "id", list(range(n)))
    others = columns(
        colour_no=[k % 5 for k in range(n)],
        colour_name=[("red", "blue", "green", "grey", "pink")[k % 5] for k in range(n)],
        subclass=[str(1000 + k % 150) for k in range(n)],
        weight_g=[k % 150 for k in range(n)],  # a measure
    )
    assert list(attribute_columns([key, *others], key, [])) == ["colour_name", "subclass"]


def test_attributes_have_few_values_and_one_per_sale():
    key = Column("id", "id", [1, 1, 2, 2, 3, 4])
    others = columns(
        Produkt_Kategorie=["a", "a", "b", "b", "a", None],
        PRODUCT_CATEGORY=["a", "a", "b", "b", "a", "a"],
        Pays=["FR", "FR", "IT", "IT", "FR", "IT"],
        buyer_country=["FR", "IT", "FR", "IT", "FR", "IT"],  # not one per id
        title=["a", "a", "b", "b", "c", "d"],
        constant=["x"] * 6,
        weight=[1.5, 1.5, 2.5, 2.5, 1.5, 1.5],
        day=["2026-03-01"] * 3 + ["2026-03-02"] * 3,
    )
    found = attribute_columns([key, *others], key, ["title"])
    assert {name: column.name for name, column in found.items()} == {
        "produkt_kategorie": "Produkt_Kategorie",
        "category": "PRODUCT_CATEGORY",
        "country": "Pays",
    }


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("yoochoose-buys.dat", ("purchase", "the file is called yoochoose-buys.dat")),
        ("transactions_train.csv", ("purchase", "the file is called transactions_train.csv")),
        ("product-views.2026.csv.gz", ("visit", "the file is called product-views.2026.csv.gz")),
        ("events.csv", None),
        ("returns.csv", None),  # neither
    ],
)
def test_name_of_a_file_says_what_its_rows_are(file, expected):
    clicks = columns(user_id=[1, 2], item_id=["a1", "a2"], time=["2026-03-01"] * 2)
    assert kind_of_rows(clicks, None, file) == expected


def test_pieces_and_orders_say_that_rows_are_purchases():
    assert kind_of_rows(ORDERS, ORDERS[3], "clicks.csv") == ("purchase", "there is a quantity, Menge")
    assert kind_of_rows(ORDERS, None, "clicks.csv") == ("purchase", "there is Bestellung")


def test_photos_are_known_by_their_addresses():
    found = photo_columns(columns(a=["x.jpg", "y/z.PNG"], b=["https://h/img?id=1"] * 2, c=["text", "b"]))
    assert [each.name for each in found] == ["a", "b"]


def test_root_of_photos_is_their_host_or_the_folder_where_they_are(tmp_path):
    (tmp_path / "x.jpg").touch()
    raw = RawTable(path=str(tmp_path / "images.csv"))
    assert photo_root(["https://cdn.shop/a/1.jpg", "https://cdn.shop/b.jpg"], raw) == "https://cdn.shop"
    assert photo_root(["x.jpg", "y.jpg"], raw) == str(tmp_path)
    with pytest.raises(InputError, match="2 hosts"):
        photo_root(["https://a/1.jpg", "https://b/1.jpg"], raw)
