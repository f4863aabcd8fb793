import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose

from recsys import compiled

LOOP = """
import numpy as np
from recsys.compiled import compiled, logarithm

@compiled
def total(values):
    sum = np.float32(0)
    for value in values:
        sum += logarithm(value) * np.float32(1.1)
    return sum
"""
VALUES = np.random.default_rng(0).random(100).astype(np.float32) + 1


@pytest.fixture(autouse=True)
def _forget_reports() -> Iterator[None]:
    compiled._problems.clear()
    yield
    compiled._problems.clear()


def loaded(folder: Path) -> ModuleType:
    """Return a module with a compiled loop, as a new process would import it."""
    file = folder / "loop.py"
    if not file.exists():
        file.write_text(LOOP)
    spec = importlib.util.spec_from_file_location("loop", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected() -> float:
    return float(np.log(VALUES.astype(np.float64)).sum() * 1.1)


def test_logarithm_is_right_to_4e_6() -> None:
    values = np.concatenate((np.geomspace(1e-30, 1e30, 500), 1 + np.linspace(0, 1e-3, 100))).astype(np.float32)

    @numba.njit
    def logarithms(numbers: np.ndarray) -> list:
        return [compiled.logarithm(number) for number in numbers]

    assert_allclose(logarithms(values), np.log(values.astype(np.float64)), atol=4e-6)
    assert logarithms(np.ones(1, np.float32)) == [0]


def test_exponential_is_right_to_2e_7_and_finite_beyond_its_range() -> None:
    values = np.linspace(-87, 88, 2_001).astype(np.float32)

    @numba.njit
    def exponentials(numbers: np.ndarray) -> list:
        return [compiled.exponential(number) for number in numbers]

    assert_allclose(exponentials(values), np.exp(values.astype(np.float64)), rtol=2e-7)
    assert exponentials(np.array([0, -1000, 1000], np.float32)) == [1, *exponentials(values[[0, -1]])]


def test_power_of_two_is_right_to_2e_7_and_0_where_a_float32_cannot_hold_it() -> None:
    values = np.linspace(-126, 127, 2_001)

    @numba.njit
    def powers(numbers: np.ndarray) -> list:
        return [compiled.power_of_two(number) for number in numbers]

    assert_allclose(powers(values), np.exp2(values), rtol=2e-7)
    assert powers(np.array([0.0, -1, 3, -126.5, -1e9, 1e9])) == [1, 0.5, 8, 0, 0, 2.0**127]


def test_loop_is_compiled_once_and_then_read_from_the_disk(tmp_path: Path) -> None:
    assert loaded(tmp_path).total(VALUES) == pytest.approx(expected(), rel=1e-5)
    again = loaded(tmp_path).total
    assert again(VALUES) == pytest.approx(expected(), rel=1e-5)
    assert list(again.stats.cache_hits.values()) == [1]


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_damaged_cache_is_compiled_again_and_said(
    tmp_path: Path, kind: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    loaded(tmp_path).total(VALUES)
    (file,) = tmp_path.rglob(f"*.{kind}")
    content = file.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    file.write_bytes({"cut": content[:middle], "flipped": flipped, "emptied": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert loaded(tmp_path).total(VALUES) == pytest.approx(expected(), rel=1e-5)
    assert "cannot be read" in caplog.text or kind == "nbi"  # an index may be read and lack the entry
    repaired = loaded(tmp_path).total
    repaired(VALUES)
    assert list(repaired.stats.cache_hits.values()) == [1]


def test_machine_without_a_folder_for_the_cache_compiles_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "__pycache__").write_text("a file where a folder should be")
    (tmp_path / "cache").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING):
        assert loaded(tmp_path).total(VALUES) == pytest.approx(expected(), rel=1e-5)
    assert "loops are compiled in every process" in caplog.text
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_cache_that_cannot_be_written_any_more_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    module = loaded(tmp_path)
    monkeypatch.setattr(module.total._cache._cache_file, "_open_for_write", full)
    with caplog.at_level(logging.WARNING):
        assert module.total(VALUES) == pytest.approx(expected(), rel=1e-5)
    assert "cannot be kept" in caplog.text
    assert "No space left on device" in caplog.text


def test_cache_of_another_processor_is_not_used_and_both_get_the_same_number(tmp_path: Path) -> None:
    here = float(loaded(tmp_path).total(VALUES))
    code = """import numpy as np, loop
print(float(loop.total(np.load('values.npy'))).hex(), loop.total.stats.cache_hits)"""
    np.save(tmp_path / "values.npy", VALUES)
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse2"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, env=environment, check=True)
    number, hits = done.stdout.decode().split(maxsplit=1)
    assert float.fromhex(number) == here
    assert hits.strip() == "Counter()"
