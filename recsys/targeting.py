"""Conditions over named values: the users that a rule or an experiment is for, the sales that a rule matches.

    {market: France}                                       equal
    {market: {$in: [France, Italy]}, visits: {$gte: 3}}    several keys: all must hold
    {$or: [{market: France}, {$not: {channel: search}}]}   at least one holds; negation

Operators are $eq, $ne, $in, $nin, $exists, $gt, $gte, $lt and $lte. Texts are equal if all characters are, case
included. A number is compared with values that are numbers or can be parsed as one. For an absent value $ne and $nin
hold; $eq, $in and the comparisons with numbers do not.
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
    """A condition as written and as a compiled test; the type can be that of a field of settings."""

    source: Mapping[str, Any]
    """The condition as written."""
    holds: Test = field(compare=False, repr=False)
    """Returns whether the condition holds for values by name."""

    @classmethod
    def of(cls, source: Any) -> "Condition":
        """Compile a condition.

        Args:
            source: The condition as parsed from YAML; a `Condition` is returned unchanged.

        Raises:
            ValidationError: With key, value and rule of every problem.
        """
        if isinstance(source, Condition):
            return source
        compiler = _Compiler()
        test = compiler.condition(source, ())
        if compiler.problems:
            raise ValidationError.from_exception_data("condition", compiler.problems)
        return cls(source, test)

    @property
    def names(self) -> set[str]:
        """The names of the values that the condition refers to."""
        return _names_in(self.source)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.of, serialization=core_schema.plain_serializer_function_ser_schema(lambda condition: condition.source)
        )


class _Compiler:
    """Compiles a condition into a test and collects its problems."""

    def __init__(self) -> None:
        self.problems: list[InitErrorDetails] = []

    def condition(self, source: Any, key: _Key) -> Test:
        if not isinstance(source, dict) or not source:
            return self._reject(key, source, "must be a condition such as {country: Italy}")
        return _all_of([self._entry(name, value, (*key, name)) for name, value in source.items()])

    def _entry(self, name: Any, value: Any, key: _Key) -> Test:
        if not isinstance(name, str):
            return self._reject((*key[:-1], str(name)), value, "a name must be text: quote it")
        if name == "$not":
            return partial(_negation, self.condition(value, key))
        if name in _CONNECTIVES:
            return self._connective(name, value, key)
        if name.startswith("$"):
            return self._reject(key, value, f"must be {', '.join(_CONNECTIVES)} or the name of a value")
        return self._field(name, value if isinstance(value, dict) else {"$eq": value}, key)

    def _connective(self, connective: str, parts: Any, key: _Key) -> Test:
        if not isinstance(parts, list) or not parts:
            return self._reject(key, parts, "must be a list of conditions")
        tests = [self.condition(part, (*key, index)) for index, part in enumerate(parts)]
        return _all_of(tests) if connective == "$and" else partial(_any_of, tests)

    def _field(self, name: str, operators: dict[Any, Any], key: _Key) -> Test:
        if not operators:
            return self._reject(key, operators, "must be a value or hold an operator, such as {$in: [Italy, Spain]}")
        return _all_of([partial(_value_holds, name, self._operator(sign, operators[sign], key)) for sign in operators])

    def _operator(self, sign: Any, operand: Any, key: _Key) -> _ValueTest:
        at = key if sign == "$eq" else (*key, str(sign))
        if sign in ("$eq", "$ne"):
            self._check_value(operand, at)
            return _is_one_of([operand], negated=sign == "$ne")
        if sign in ("$in", "$nin"):
            return _is_one_of(self._checked_list(operand, at), negated=sign == "$nin")
        if sign in _COMPARISONS:
            self._check_number(operand, at)
            return partial(_comparison_holds, _COMPARISONS[sign], operand)
        if sign != "$exists":
            self._reject(at, operand, f"must be one of {', '.join(_OPERATORS)}; $not takes a whole condition")
        elif not isinstance(operand, bool):
            self._reject(at, operand, "must be true or false")
        return partial(_existence_is, operand)

    def _checked_list(self, operand: Any, key: _Key) -> list[Value]:
        if not isinstance(operand, list) or not operand:
            self._reject(key, operand, "must be a list of values")
            return []
        for index, value in enumerate(operand):
            self._check_value(value, (*key, index))
        return operand

    def _check_value(self, value: Any, key: _Key) -> None:
        if problem := _value_problem(value):
            self._reject(key, value, problem)

    def _check_number(self, value: Any, key: _Key) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._reject(key, value, "must be a number: only numbers are compared")

    def _reject(self, key: _Key, value: Any, rule: str) -> Test:
        kind = PydanticCustomError("condition", "{rule}", {"rule": rule})
        self.problems.append(InitErrorDetails(type=kind, loc=key, input=value))
        return _never


def _names_in(source: Any) -> set[str]:
    if isinstance(source, list):
        return set().union(*map(_names_in, source))
    return set().union(*(_names_in(value) if name in _CONNECTIVES else {name} for name, value in source.items()))


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


def _as_number(value: Value | None) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value) if "_" not in value else None  # float('1_0') is 10
        except ValueError:
            return None
    return value if value is not None and math.isfinite(value) else None


def _is_one_of(operands: Iterable[Value], negated: bool) -> _ValueTest:
    operands = [operand for operand in operands if isinstance(operand, str | int | float)]
    texts = frozenset(operand for operand in operands if isinstance(operand, str))
    numbers = frozenset(operand for operand in operands if not isinstance(operand, str))
    if not numbers:  # the usual case: parsing a number takes 10 times as long
        return (lambda value: value not in texts) if negated else (lambda value: value in texts)
    return lambda value: (value in texts or _as_number(value) in numbers) is not negated


def _comparison_holds(comparison: Callable[[float, float], bool], operand: float, value: Value | None) -> bool:
    number = _as_number(value)
    return number is not None and comparison(number, operand)


def _existence_is(wanted: bool, value: Value | None) -> bool:
    return (value is not None) is wanted


def _value_holds(name: str, test: _ValueTest, values: Mapping[str, Value]) -> bool:
    return test(values.get(name))


def _all_of(tests: list[Test]) -> Test:
    return tests[0] if len(tests) == 1 else lambda values: all(test(values) for test in tests)


def _any_of(tests: list[Test], values: Mapping[str, Value]) -> bool:
    return any(test(values) for test in tests)


def _negation(test: Test, values: Mapping[str, Value]) -> bool:
    return not test(values)


def _never(_values: Mapping[str, Value]) -> bool:
    return False
