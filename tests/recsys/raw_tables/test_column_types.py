import pytest
from pyspark.sql.types import DataType, NullType

from recsys.raw_tables.column_types import is_compatible, merged, wider, with_types


def of(text: str):
    return NullType() if text == "void" else DataType.fromDDL(text)


@pytest.mark.usefixtures("spark")  # parses the types
@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("int", "bigint", "bigint"),
        ("tinyint", "smallint", "smallint"),
        ("float", "double", "double"),
        ("int", "float", "double"),  # a float holds integers up to 2**24 only
        ("decimal(5,2)", "decimal(6,1)", "decimal(7,2)"),
        ("decimal(5,2)", "int", "double"),
        ("date", "timestamp", "timestamp"),
        ("date", "timestamp_ntz", "timestamp_ntz"),
        ("void", "array<int>", "array<int>"),
        ("array<int>", "array<bigint>", "array<bigint>"),
        ("map<string,int>", "map<string,double>", "map<string,double>"),
        ("struct<a:int>", "struct<b:string,a:bigint>", "struct<a:bigint,b:string>"),
        ("string", "int", "string"),
        ("boolean", "struct<a:int>", "string"),
    ],
)
def test_wider_type_holds_the_values_of_both(one, other, both):
    assert wider(of(one), of(other)) == of(both)
    if "struct" not in one or "struct" not in other:  # whose fields are in the order of the first
        assert wider(of(other), of(one)) == of(both)


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ("int", "bigint", True),
        ("double", "int", True),
        ("date", "timestamp", True),
        ("timestamp", "date", False),
        ("timestamp", "timestamp_ntz", False),
        ("bigint", "string", False),
        ("string", "bigint", True),
        ("boolean", "int", False),
        ("void", "string", True),
        ("double", "void", True),
        ("struct<a:int>", "struct<a:bigint,b:int>", True),
        ("struct<a:int>", "struct<a:string>", False),
        ("array<int>", "array<string>", False),
        ("array<int>", "int", False),
    ],
)
def test_sql_means_the_same_with_wider_types_and_not_with_other_kinds(before, now, expected):
    assert is_compatible(of(before), of(now)) is expected


@pytest.mark.usefixtures("spark")
def test_columns_of_several_files_are_merged_by_name_and_those_without_values_are_texts():
    schema = merged([of("struct<a:int,b:string>"), of("struct<b:string,c:double,a:bigint>")])
    assert schema == of("struct<a:bigint,b:string,c:double>")
    schema.add("nothing", NullType())
    assert with_types(schema)[0]["nothing"].dataType == of("string")
    assert with_types(schema)[1] == ["nothing"]
