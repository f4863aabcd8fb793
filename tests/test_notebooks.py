"""The notebook that brings a shop of one's own, from files that it makes to a backtest; the other one is run on the
demo shop, see test_end_to_end."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def test_notebook_that_brings_a_shop_runs(tmp_path):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    replaced = {"2026-02-26": "2026-03-01"}  # one day
    wanted = "[list(result.metrics.loc[['meta', 'popularity'], 'ndcg@10']), len(shop.top(customer, 5).sales)]"
    command = [sys.executable, "-m", "tests.helpers.notebooks", ROOT / "docs/your_own_shop.ipynb", json.dumps(replaced)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [*command, wanted], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (meta, popularity), shown = json.loads(done.stdout.splitlines()[-1])
    assert meta > popularity
    assert shown == 5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_was_executed_from_its_first_to_its_last_cell(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert cells[-1]["outputs"]
