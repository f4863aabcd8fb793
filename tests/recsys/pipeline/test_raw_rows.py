from recsys.pipeline.raw_rows import first_rows


def test_rows_are_text_of_every_type_under_any_column_name(spark):
    frame = spark.sql(
        "select 'a\\nb' as `x.y`, null as n, timestamp '2026-03-01T00:00:00Z' as t, array(1, 2) as l, "
        "map('k', 1) as m, x'4142' as b, 1 as `x.y` from range(5)"
    )
    (found,) = first_rows({"lines": frame}, n=2)
    assert found.table == "lines"
    assert [kind for _, kind in found.columns] == [
        *("string", "void", "timestamp", "array<int>", "map<string,int>", "binary", "int"),
    ]
    assert found.rows == [("a\nb", None, "2026-03-01 00:00:00", "[1, 2]", "{k -> 1}", "AB", "1")] * 2
