"""Conditions over named values: whom a rule is for, which sales it means.

    {market: France}                                       equal
    {market: {$in: [France, Italy]}, visits: {$gte: 3}}    several keys: all hold
    {$or: [{market: France}, {$not: {channel: search}}]}   any holds; its opposite

Operators are $eq, $ne, $in, $nin, $exists, $gt, $gte, $lt and $lte. Text equals text letter by letter. A number
equals, and is compared with, a value that is or reads as a number. An absent value equals nothing and lies on no
side of a number: $ne and $nin hold for it.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from pydantic import ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

Value = str | float
Test = Callable[[Mapping[str, Value]], bool]
_ValueTest = Callable[[Value | None], bool]
_Key = tuple[str | int, ...]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_OPERATORS = ("$eq", "$ne", "$in", "$nin", "$exists", *_COMPARISONS)
_CONNECTIVES = ("$and", "$or", "$not")


@dataclass(frozen=True)
class Condition:
    """A condition, as it is written and as a test; a field of settings may have this type."""

    source: Mapping[str, Any]
    """What was written."""
    holds: Test = field(compare=False, repr=False)
    """Tells whether it holds for values by name."""

    @classmethod
    def of(cls, source: Any) -> "Condition":
        """Compile a condition.

        Args:
            source: What YAML made of it; a condition stays what it is.

        Raises:
            ValidationError: With key, value and rule of everything that is wrong.
        """
        if isinstance(source, Condition):
            return source
        compiler = _Compiler()
        test = compiler.condition(source, ())
        if compiler.problems:
            raise ValidationError.from_exception_data("condition", compiler.problems)
        return cls(source, test)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.of, serialization=core_schema.plain_serializer_function_ser_schema(lambda condition: condition.source)
        )


class _Compiler:
    """Turns a condition into a test, and collects what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[InitErrorDetails] = []

    def condition(self, source: Any, key: _Key) -> Test:
        if not isinstance(source, dict) or not source:
            return self._wrong(key, source, "must be a condition such as {country: Italy}")
        return _all([self._part(name, value, (*key, name)) for name, value in source.items()])

    def _part(self, name: Any, value: Any, key: _Key) -> Test:
        if not isinstance(name, str):
            return self._wrong((*key[:-1], str(name)), value, "a name must be text: quote it")
        if name == "$not":
            return partial(_opposite, self.condition(value, key))
        if name in _CONNECTIVES:
            return self._connected(name, value, key)
        if name.startswith("$"):
            return self._wrong(key, value, f"must be {', '.join(_CONNECTIVES)} or the name of a value")
        return self._field(name, value if isinstance(value, dict) else {"$eq": value}, key)

    def _connected(self, connective: str, parts: Any, key: _Key) -> Test:
        if not isinstance(parts, list) or not parts:
            return self._wrong(key, parts, "must be a list of conditions")
        tests = [self.condition(part, (*key, index)) for index, part in enumerate(parts)]
        return _all(tests) if connective == "$and" else partial(_any, tests)

    def _field(self, name: str, operators: dict[Any, Any], key: _Key) -> Test:
        if not operators:
            return self._wrong(key, operators, "must be a value or hold an operator, such as {$in: [Italy, Spain]}")
        return _all([partial(_of_field, name, self._operator(sign, operators[sign], key)) for sign in operators])

    def _operator(self, sign: Any, operand: Any, key: _Key) -> _ValueTest:
        at = key if sign == "$eq" else (*key, str(sign))
        if sign in ("$eq", "$ne"):
            self._check_value(operand, at)
            return _one_of([operand], opposite=sign == "$ne")
        if sign in ("$in", "$nin"):
            return _one_of(self._checked_list(operand, at), opposite=sign == "$nin")
        if sign in _COMPARISONS:
            self._check_number(operand, at)
            return partial(_compares, _COMPARISONS[sign], operand)
        if sign != "$exists":
            self._wrong(at, operand, f"must be one of {', '.join(_OPERATORS)}; $not stands around a whole condition")
        elif not isinstance(operand, bool):
            self._wrong(at, operand, "must be true or false")
        return partial(_exists, operand)

    def _checked_list(self, operand: Any, key: _Key) -> list[Value]:
        if not isinstance(operand, list) or not operand:
            self._wrong(key, operand, "must be a list of values")
            return []
        for index, value in enumerate(operand):
            self._check_value(value, (*key, index))
        return operand

    def _check_value(self, value: Any, key: _Key) -> None:
        if problem := _value_problem(value):
            self._wrong(key, value, problem)

    def _check_number(self, value: Any, key: _Key) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._wrong(key, value, "must be a number: only numbers are compared")

    def _wrong(self, key: _Key, value: Any, rule: str) -> Test:
        kind = PydanticCustomError("condition", "{rule}", {"rule": rule})
        self.problems.append(InitErrorDetails(type=kind, loc=key, input=value))
        return _never


def _value_problem(value: Any) -> str | None:
    if isinstance(value, bool):
        return "is a boolean, as YAML reads NO, yes, on and the like; a value is text or a number: put it in quotes"
    if isinstance(value, date):
        return "is a date to YAML; a value is text or a number: put it in quotes"
    if isinstance(value, list):
        return "must be one value: write {$in: [...]} for one of several"
    if value is None:
        return "is empty: write {$exists: false} for what is absent"
    good = isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))
    return None if good else "must be text or a finite number"


def _number(value: Value | None) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value) if "_" not in value else None  # float('1_0') is 10
        except ValueError:
            return None
    return value if value is not None and math.isfinite(value) else None


def _one_of(operands: Iterable[Value], opposite: bool) -> _ValueTest:
    operands = [operand for operand in operands if isinstance(operand, str | int | float)]
    texts = frozenset(operand for operand in operands if isinstance(operand, str))
    numbers = frozenset(operand for operand in operands if not isinstance(operand, str))
    if not numbers:  # the usual case: reading a number costs 10 times as much
        return (lambda value: value not in texts) if opposite else (lambda value: value in texts)
    return lambda value: (value in texts or _number(value) in numbers) is not opposite


def _compares(comparison: Callable[[float, float], bool], operand: float, value: Value | None) -> bool:
    number = _number(value)
    return number is not None and comparison(number, operand)


def _exists(wanted: bool, value: Value | None) -> bool:
    return (value is not None) is wanted


def _of_field(name: str, test: _ValueTest, values: Mapping[str, Value]) -> bool:
    return test(values.get(name))


def _all(tests: list[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda values: all(test(values) for test in tests)


def _any(tests: list[Test], values: Mapping[str, Value]) -> bool:
    return any(test(values) for test in tests)


def _opposite(test: Test, values: Mapping[str, Value]) -> bool:
    return not test(values)


def _never(_values: Mapping[str, Value]) -> bool:
    return False
