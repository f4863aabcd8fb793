"""Loops compiled to machine code by numba, and kept on disk, so that a process compiles them once per version.

Compiled loops release the interpreter's lock. They keep the order of arithmetic that they are written in (no fast
maths), whatever the processor; only functions of the C library, such as exp2, may differ in the last bit. The cache is
beside the module or, where that is read-only, in the user's cache folder (`NUMBA_CACHE_DIR` chooses another); a cache
that is damaged or cannot be written costs the time to compile, and is reported once.
"""

import inspect
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from zlib import crc32

import numpy as np
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, ZipCacheLocator
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])

_CRC_BYTES = 4
_OWN_CODE = crc32(inspect.getsource(sys.modules[__name__]).encode())
_problems: set[str] = set()


def compiled(function: _Function) -> _Function:
    """Return a function compiled at its first call for each combination of argument types."""
    dispatcher: Any = njit(function, nogil=True, error_model="numpy")
    try:
        dispatcher._cache = _CheckedCache(function)
    except RuntimeError as error:  # no folder for the cache can be written
        _report(f"loops are compiled in every process ({error}): set NUMBA_CACHE_DIR to a folder that can be written")
    return cast(_Function, dispatcher)


def inlined(function: _Function) -> _Function:
    """Return a function that compiled functions call without the cost of a call."""
    return cast(_Function, njit(function, nogil=True, error_model="numpy", inline="always"))


@inlined
def logarithm(x: np.float32) -> np.float32:
    """Return the natural logarithm of a positive, normal number, right to 4e-6: half the time of the library's.

    Source:
        Moshier 1989, Cephes, logf: the polynomial.
    """
    bits = np.float32(x).view(np.int32)
    exponent = (bits >> np.int32(23)) - np.int32(126)
    mantissa = np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)).view(np.float32)  # in [0.5, 1)
    is_low = mantissa < np.float32(0.70710678)
    exponent = exponent - np.int32(1) if is_low else exponent
    m = (mantissa + mantissa) - np.float32(1) if is_low else mantissa - np.float32(1)
    square = m * m
    y = np.float32(7.0376836292e-2)
    y = y * m + np.float32(-1.1514610310e-1)
    y = y * m + np.float32(1.1676998740e-1)
    y = y * m + np.float32(-1.2420140846e-1)
    y = y * m + np.float32(1.4249322787e-1)
    y = y * m + np.float32(-1.6668057665e-1)
    y = y * m + np.float32(2.0000714765e-1)
    y = y * m + np.float32(-2.4999993993e-1)
    y = y * m + np.float32(3.3333331174e-1)
    y = y * m * square + np.float32(exponent) * np.float32(-2.12194440e-4) - np.float32(0.5) * square
    return m + y + np.float32(exponent) * np.float32(0.693359375)


@inlined
def exponential(x: np.float32) -> np.float32:
    """Return e^x, right to 2e-7 of it, for x from -87 to 88; that of the nearer end beyond.

    Source:
        Moshier 1989, Cephes, expf: the polynomial.
    """
    x = min(max(x, np.float32(-87)), np.float32(88))
    power = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    rest = x - power * np.float32(0.693359375) - power * np.float32(-2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * rest + np.float32(1.3981999507e-3)
    y = y * rest + np.float32(8.3334519073e-3)
    y = y * rest + np.float32(4.1665795894e-2)
    y = y * rest + np.float32(1.6666665459e-1)
    y = y * rest + np.float32(5.0000001201e-1)
    y = y * rest * rest + rest + np.float32(1)
    return y * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)


@inlined
def power_of_two(x: np.float64) -> np.float32:
    """Return 2^x, right to 2e-7 of it, for x from -126 to 127; 0 below, and that of 127 above.

    Source:
        Moshier 1989, Cephes, exp2f: the polynomial.
    """
    within = min(max(x, -126.0), 127.0)
    power = np.floor(within + 0.5)
    rest = np.float32(within - power)
    y = np.float32(1.5353362e-4)
    y = y * rest + np.float32(1.3398874e-3)
    y = y * rest + np.float32(9.6184374e-3)
    y = y * rest + np.float32(5.5503325e-2)
    y = y * rest + np.float32(2.4022648e-1)
    y = y * rest + np.float32(6.9314720e-1)
    y = y * rest + np.float32(1)
    y = y * np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return y if x >= -126.0 else np.float32(0)


@inlined
def total(row: NDArray[np.float32]) -> float:
    """Return the sum, from four sums, between which the processor need not wait for its last addition."""
    first, second, third, fourth, n = 0.0, 0.0, 0.0, 0.0, len(row)
    end = n - n % 4
    for column in range(0, end, 4):
        first += row[column]
        second += row[column + 1]
        third += row[column + 2]
        fourth += row[column + 3]
    for column in range(end, n):
        first += row[column]
    return first + second + third + fourth


class _ZipLocator(ZipCacheLocator):
    """The cache of code in a zip file, by its path in there: each application of Spark has the file elsewhere."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        super().__init__(function, path)
        if folder := os.environ.get("NUMBA_CACHE_DIR"):
            self._cache_path = str(Path(folder) / self.get_suitable_cache_subpath(path))

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        """Return the name of the folder in the user's cache folder."""
        return super().get_suitable_cache_subpath(py_file.rpartition(".zip")[2])


class _Places(CompileResultCacheImpl):
    _locator_classes = [
        _ZipLocator if each is ZipCacheLocator else each for each in CompileResultCacheImpl._locator_classes
    ]


class _CheckedCache(FunctionCache):
    """A cache whose entries carry a checksum: a damaged one is compiled again, and machine code is never guessed."""

    _impl_class = _Places

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        file: Any = self._cache_file
        file._source_stamp = file._source_stamp, _OWN_CODE  # what is inlined from here is part of the machine code
        file._save_data, file._load_data = self._save_checked, self._load_checked

    def load_overload(self, sig: object, target_context: object) -> Any:
        """Return the machine code of a signature; None where there is none that is whole."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            _report(f"compiled loops in {self.cache_path} cannot be read ({error}): they are compiled again")
            return None

    def save_overload(self, sig: object, data: object) -> None:
        """Keep the machine code of a signature, if that can be written."""
        try:
            try:
                super().save_overload(sig, data)
            except Exception:  # the index may be damaged
                self.flush()
                super().save_overload(sig, data)
        except Exception as error:
            _report(f"compiled loops cannot be kept in {self.cache_path} ({error}): every process compiles them")

    def _save_checked(self, name: str, data: object) -> None:
        file = self._cache_file
        content = file._dump(data)
        with file._open_for_write(file._data_path(name)) as stream:
            stream.write(crc32(content).to_bytes(_CRC_BYTES, "big") + content)

    def _load_checked(self, name: str) -> Any:
        import pickle  # the cache is the user's own, as the modules beside it are

        content = Path(self._cache_file._data_path(name)).read_bytes()
        if crc32(content[_CRC_BYTES:]) != int.from_bytes(content[:_CRC_BYTES], "big"):
            raise ValueError(f"{name} is damaged")
        return pickle.loads(content[_CRC_BYTES:])


def _report(problem: str) -> None:
    if problem not in _problems:
        _problems.add(problem)
        _log.warning(problem)
