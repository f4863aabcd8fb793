"""Types of columns that differ between files of one table, or between two nights."""

from collections.abc import Iterable

from pyspark.sql.types import (
    ArrayType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    NullType,
    NumericType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
)

_INTEGERS = (ByteType, ShortType, IntegerType, LongType)


def merged(schemas: Iterable[StructType]) -> StructType:
    """Return all columns of several files, by name, each in a type that holds the values of all of them."""
    found: dict[str, DataType] = {}
    for schema in schemas:
        for field in schema:
            found[field.name] = wider(found.get(field.name, NullType()), field.dataType)
    return StructType([StructField(name, kind) for name, kind in found.items()])


def wider(one: DataType, other: DataType) -> DataType:
    """Return the type that holds the values of both: double of integers and floats, text of text and anything else."""
    if one == other or isinstance(other, NullType):
        return one
    if isinstance(one, NullType):
        return other
    if isinstance(one, NumericType) and isinstance(other, NumericType):
        return _wider_number(one, other)
    if isinstance(one, StructType) and isinstance(other, StructType):
        return merged([one, other])
    if isinstance(one, ArrayType) and isinstance(other, ArrayType):
        return ArrayType(wider(one.elementType, other.elementType))
    if isinstance(one, MapType) and isinstance(other, MapType):
        return MapType(wider(one.keyType, other.keyType), wider(one.valueType, other.valueType))
    for a, b in ((one, other), (other, one)):
        if isinstance(a, DateType) and isinstance(b, TimestampType | TimestampNTZType):
            return b
    return StringType()


def _wider_number(one: NumericType, other: NumericType) -> DataType:
    if isinstance(one, _INTEGERS) and isinstance(other, _INTEGERS):
        return max(one, other, key=lambda each: _INTEGERS.index(type(each)))
    if isinstance(one, DecimalType) and isinstance(other, DecimalType):
        scale = max(one.scale, other.scale)
        return DecimalType(min(38, max(one.precision - one.scale, other.precision - other.scale) + scale), scale)
    if {type(one), type(other)} <= {FloatType, ByteType, ShortType}:
        return FloatType()
    return DoubleType()


def is_compatible(before: DataType, now: DataType) -> bool:
    """Return whether SQL that was written for a column's type means the same with another one.

    A text may become anything, since the SQL casts it; numbers may be wider or narrower, and a date an instant.
    """
    if before == now or isinstance(before, NullType | StringType) or isinstance(now, NullType):
        return True
    if isinstance(before, NumericType):
        return isinstance(now, NumericType)
    if isinstance(before, DateType):
        return isinstance(now, TimestampType | TimestampNTZType)
    if isinstance(before, ArrayType) and isinstance(now, ArrayType):
        return is_compatible(before.elementType, now.elementType)
    if isinstance(before, MapType) and isinstance(now, MapType):
        return is_compatible(before.keyType, now.keyType) and is_compatible(before.valueType, now.valueType)
    if isinstance(before, StructType) and isinstance(now, StructType):
        both = set(before.names) & set(now.names)
        return all(is_compatible(before[name].dataType, now[name].dataType) for name in both)
    return False


def with_types(schema: StructType) -> tuple[StructType, list[str]]:
    """Return columns of which each has a type, texts where no file has a value, and the names of the latter."""
    untyped = [field.name for field in schema if isinstance(field.dataType, NullType)]
    return StructType([StructField(field.name, _typed(field.dataType)) for field in schema]), untyped


def _typed(kind: DataType) -> DataType:
    if isinstance(kind, NullType):
        return StringType()
    if isinstance(kind, StructType):
        return with_types(kind)[0]
    if isinstance(kind, ArrayType):
        return ArrayType(_typed(kind.elementType))
    if isinstance(kind, MapType):
        return MapType(_typed(kind.keyType), _typed(kind.valueType))
    return kind


def quoted(column: str) -> str:
    """Return a column's name as an SQL expression."""
    return "`" + column.replace("`", "``") + "`"
