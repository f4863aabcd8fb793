import pytest
from pydantic import ValidationError

from recsys.rules import Condition

REQUEST = {"country": "FR", "visits": "12", "ratio": "0.5", "empty": "", "code": "1_0", "odd": "nan", "huge": "inf"}


@pytest.mark.parametrize(
    "source",
    [
        {"country": "FR"},
        {"country": {"$eq": "FR"}},
        {"country": {"$ne": "fr"}},  # letter by letter
        {"country": {"$in": ["DE", "FR"]}},
        {"country": {"$nin": ["DE", "IT"]}},
        {"country": {"$exists": True}},
        {"empty": {"$exists": True}},
        {"absent": {"$exists": False}},
        {"visits": 12},
        {"visits": 12.0},
        {"visits": "12"},
        {"visits": {"$in": [7, 12]}},
        {"visits": {"$gt": 9}},  # as text, '12' would lie before '9'
        {"visits": {"$gte": 12}},
        {"visits": {"$lt": 100, "$lte": 12}},
        {"ratio": {"$lte": 0.5}},
        {"country": {"$in": [5, "FR"]}},
        {"country": {"$ne": 5}},
        {"country": "FR", "visits": 12},
        {"$or": [{"country": "DE"}, {"visits": 12}]},
        {"$and": [{"country": "FR"}, {"visits": 12}]},
        {"$not": {"country": "DE"}},
        {"$not": {"$and": [{"country": "FR"}, {"visits": 13}]}},
        {"absent": {"$ne": "x"}},
        {"absent": {"$nin": ["x", 1]}},
    ],
    ids=str,
)
def test_condition_that_holds(source):
    assert Condition.of(source).holds(REQUEST)
    assert not Condition.of({"$not": source}).holds(REQUEST)


@pytest.mark.parametrize(
    "source",
    [
        {"country": "DE"},
        {"country": {"$ne": "FR"}},
        {"country": {"$nin": ["FR", 5]}},
        {"country": {"$exists": False}},
        {"visits": 13},
        {"visits": "12.0"},  # quoted: as text
        {"visits": {"$ne": 12.0}},
        {"visits": {"$gt": 12}},
        {"visits": {"$gte": 10, "$lt": 12}},
        {"country": {"$gt": 0}},  # no number lies on a side of text
        {"country": {"$lte": 0}},
        {"absent": {"$lt": 5}},
        {"absent": "FR"},
        {"absent": {"$in": ["FR", 1]}},
        {"code": 10},  # Python reads 1_0 as ten
        {"odd": {"$lt": 1}},
        {"huge": {"$gt": 1}},
        {"country": "FR", "visits": 13},
        {"$or": [{"country": "DE"}, {"visits": 13}]},
        {"$and": [{"country": "FR"}, {"visits": 13}]},
    ],
    ids=str,
)
def test_condition_that_does_not_hold(source):
    assert not Condition.of(source).holds(REQUEST)


def test_numbers_of_a_sale_are_numbers_already():
    assert Condition.of({"price": {"$gte": 99.5}}).holds({"price": 99.5})
    assert Condition.of({"price": 99}).holds({"price": 99.0})
    assert not Condition.of({"price": "99"}).holds({"price": 99.0})


@pytest.mark.parametrize(
    ("source", "key", "rule"),
    [
        ("FR", "", "must be a condition such as"),
        ([], "", "must be a condition such as"),
        ({}, "", "must be a condition such as"),
        ({"country": False}, "country", "is a boolean, as YAML reads NO"),
        ({"country": {"$in": ["FR", False]}}, "country.$in.1", "put it in quotes"),
        ({"country": {"$ne": True}}, "country.$ne", "is a boolean"),
        ({False: "x"}, "False", "a name must be text: quote it"),
        ({"country": ["FR", "DE"]}, "country", "write {$in: [...]} for one of several"),
        ({"country": None}, "country", "write {$exists: false} for what is absent"),
        ({"country": {}}, "country", "must be a value or hold an operator"),
        ({"country": {"$inn": ["FR"]}}, "country.$inn", "must be one of $eq, $ne, $in"),
        ({"country": {"FR": 1}}, "country.FR", "must be one of $eq, $ne, $in"),
        ({"country": {"$not": {"$eq": "FR"}}}, "country.$not", "$not takes a whole condition"),
        ({"country": {"$in": "FR"}}, "country.$in", "must be a list of values"),
        ({"country": {"$in": []}}, "country.$in", "must be a list of values"),
        ({"country": {"$in": [["FR"]]}}, "country.$in.0", "must be one value"),
        ({"country": {"$eq": {"a": 1}}}, "country", "must be text or a finite number"),
        ({"country": {"$exists": "yes"}}, "country.$exists", "must be true or false"),
        ({"visits": {"$gt": "9"}}, "visits.$gt", "must be a number"),
        ({"visits": {"$gt": True}}, "visits.$gt", "must be a number"),
        ({"visits": float("nan")}, "visits", "must be text or a finite number"),
        ({"visits": {"$lt": float("inf")}}, "visits.$lt", "must be a number"),
        ({"$nor": [{"country": "FR"}]}, "$nor", "must be $and, $or, $not or the name of a value"),
        ({"$or": {"country": "FR"}}, "$or", "must be a list of conditions"),
        ({"$and": []}, "$and", "must be a list of conditions"),
        ({"$or": [{"country": "FR"}, {"visits": None}]}, "$or.1.visits", "is empty"),
        ({"$not": {"$not": {}}}, "$not.$not", "must be a condition such as"),
    ],
    ids=str,
)
def test_invalid_condition_is_refused_with_its_key(source, key, rule):
    with pytest.raises(ValidationError) as error:
        Condition.of(source)
    [problem] = error.value.errors()
    assert ".".join(str(part) for part in problem["loc"]) == key
    assert rule in problem["msg"]


def test_all_problems_of_a_condition_are_listed():
    with pytest.raises(ValidationError) as error:
        Condition.of({"a": None, "$or": [{"b": True}, {"c": {"$gt": "x", "$foo": 1}}]})
    assert [".".join(map(str, each["loc"])) for each in error.value.errors()] == [
        "a",
        "$or.0.b",
        "$or.1.c.$gt",
        "$or.1.c.$foo",
    ]


def test_conditions_are_equal_by_what_is_written():
    assert Condition.of({"a": "b"}) == Condition.of({"a": "b"}) != Condition.of({"a": "c"})
    condition = Condition.of({"a": "b"})
    assert Condition.of(condition) is condition
