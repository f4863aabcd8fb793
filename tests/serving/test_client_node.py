"""A website in another language: a Node client that uses only the .proto file of the project."""

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from recommendations.v1 import recommendations_pb2 as pb

from serving.answers.pages import Visit
from tests.helpers.asking import answered, shown

CLIENT = Path(__file__).parent / "node_client"
PROTOS = Path(pb.__file__).parents[2]
INSTALL = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Path:
    """The folder of the client with the packages that it needs."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: install Node 18 or later to test the Node client")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(CLIENT, folder)
    try:
        subprocess.run(INSTALL, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"the packages of the Node client cannot be installed: {str(error.stderr or error)[:200]}")
    return folder / "client.js"


@pytest.fixture(scope="module")
def silent() -> str:
    """The address of a server that listens but never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_node_client_gets_pages_sends_events_and_receives_errors(shop, night, client, silent):
    shop.clock.set(2)
    user_id, sale_id = night.users[0], night.data.catalogue.sale_ids[7]
    server = shop.serve()
    command = ["node", str(client), str(PROTOS), server.target, silent, user_id, sale_id]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    found = json.loads(output)

    plain, session, after = found["plain"], found["session"], found["after"]
    own = answered(server.watcher.served(), shop.clock(), user_id, n=5, session=[Visit(sale_id)])
    ids = [sale["sale_id"] for sale in session["sales"]]
    assert ids == shown(own)
    assert [sale["score"] for sale in session["sales"]] == pytest.approx([sale.score for sale in own.sales])
    assert [sale["rank"] for sale in plain["sales"]] == [1, 2, 3, 4, 5]
    assert (plain["policy"], plain["fallback_level"]) == ("meta", "FALLBACK_LEVEL_NONE")
    assert (plain["uses_session"], session["uses_session"], after["uses_session"]) == (False, True, True)
    assert session["sales"][0]["contributions"]
    assert found["recorded"] == {"recorded": 1, "refused": []}
    assert [sale["sale_id"] for sale in after["sales"]] == ids

    assert found["refused"] == {"code": "INVALID_ARGUMENT", "details": "n == 101, must be in 1..100, or 0 for 10"}
    assert found["late"]["code"] == "DEADLINE_EXCEEDED"
    (line,) = (shop.root.parent / "recorded_events").glob("*.open")
    event = json.loads(line.read_text())
    assert (event["user_id"], event["sale_id"]) == (user_id, sale_id)
    assert event["attribution_token"] == plain["request_id"]
