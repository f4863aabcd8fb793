"""The peers that the service is compared with, each in a server of its own."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np
from redis import Redis

from benchmarks.load import Request, grpc_request
from benchmarks.processes import Running, free_ports
from benchmarks.served_shop import KEPT, ServedShop
from benchmarks.service import CLOCK, METHOD
from benchmarks.serving_peers import json_api, page_ranker
from recsys.instants import from_micros, to_micros
from recsys.meta_model import META, probability
from recsys.snapshot.format import Snapshot
from serving.answers.sentences import ReasonTexts

REDIS_USERS = 20_000
"""Number of users in Redis: a look-up takes as long with millions, which would need gigabytes."""

Peer = tuple[Running, list[Request]]
"""A server, and the requests to send to it."""


@contextmanager
def echo(folder: Path, core: int, size: int, senders: int) -> Iterator[Peer]:
    """Start a gRPC server that answers every request with `size` bytes."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.serving_peers.echo", f"--port={port}", f"--bytes={size}"]
    with Running(command, [core], folder / "echo.log") as server:
        server.wait_for(port)
        yield server, [grpc_request(f"127.0.0.1:{port}", METHOD, b"\x0a\x0bu-000000000")] * senders


@contextmanager
def json_over_redis(shop: ServedShop, core: int, redis_core: int, users: Sequence[str]) -> Iterator[Peer]:
    """Start FastAPI on one core and Redis on another, with rankings of the current snapshot as JSON."""
    redis_port, port = free_ports(2)
    command = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{redis_port}"
    environment = {"SHOP_REDIS": url, "SHOP_CLOCK": from_micros(CLOCK).isoformat()}
    uvicorn = [sys.executable, "-m", "uvicorn", f"{json_api.__name__}:app", f"--port={port}", "--no-access-log"]
    with Running(command, [redis_core], shop.folder / "redis.log") as redis:
        redis.wait_for(redis_port)
        _fill_redis(url, shop, users)
        with Running(uvicorn, [core], shop.folder / "json_api.log", environment) as server:
            server.wait_for(port)
            yield server, [Request(f"http://127.0.0.1:{port}/top-sales/{user}") for user in users]


@contextmanager
def mlflow_server(folder: Path, core: int, features: int, rows: int, senders: int) -> Iterator[Peer]:
    """Register a logistic regression, and start `mlflow models serve` with it; a request scores all sales of a page."""
    (port,) = free_ports(1)
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",  # mlflow looks for uvicorn there
    }
    log = [sys.executable, "-m", page_ranker.__name__, f"--features={features}", f"--artifacts={folder}/mlflow"]
    with Running(log, [core], folder / "page_ranker.log", environment) as registering:
        registering.finish()
    model = f"models:/{page_ranker.MODEL}/1"
    serve = [
        "mlflow",
        "models",
        "serve",
        f"--model-uri={model}",
        "--env-manager=local",
        "--workers=1",
        f"--port={port}",
    ]
    with Running(serve, [core], folder / "mlflow.log", environment) as server:
        server.wait_for(port)
        page = np.round(np.random.default_rng(0).normal(size=(rows, features)), 6).tolist()
        body = json.dumps({"inputs": page}).encode()  # the fastest of the formats that mlflow accepts
        request = Request(f"http://127.0.0.1:{port}/invocations", body, ["content-type: application/json"])
        yield server, [request] * senders


def uvicorn_parts() -> str:
    """Return the event loop and the HTTP parser that uvicorn uses here."""
    loop = "uvloop" if find_spec("uvloop") else "asyncio"
    return f"{loop}, {'httptools' if find_spec('httptools') else 'h11'}"


def missing_redis() -> str:
    """Return how to install redis-server if it is missing; empty if it is installed."""
    return "" if which("redis-server") else "redis-server is not on the PATH: sudo apt-get install redis-server"


def _fill_redis(url: str, shop: ServedShop, asked: Sequence[str]) -> None:
    snapshot = Snapshot.open(shop.root / shop.current(), verify=False)
    ranked = _ranking_json(snapshot)
    with Redis.from_url(url) as redis, redis.pipeline(transaction=False) as pipeline:
        pipeline.set(json_api.SALES, json.dumps(_shop_json(snapshot)))
        pipeline.set(json_api.POPULAR, ranked(asked[0]))
        for user in {*snapshot.users.sample(REDIS_USERS), *asked}:
            pipeline.set(f"ranking:{user}", ranked(user))
        pipeline.execute()


def _shop_json(snapshot: Snapshot) -> dict:
    sales = {
        sale.sale_id: {
            "title": sale.title,
            "price": sale.price,
            "opens_at": to_micros(sale.opens_at),
            "closes_at": to_micros(sale.closes_at),
        }
        for sale in snapshot.sales
    }
    about = {"policy": META, "model_version": snapshot.model_version, "snapshot": snapshot.name}
    return {"sales": sales, "about": about | {"as_of": to_micros(snapshot.as_of)}}


def _ranking_json(snapshot: Snapshot) -> Callable[[str], str]:
    """Return a function that returns a user's ranking as JSON, with all of the page's data that is the user's own."""
    texts = ReasonTexts(snapshot, {})
    reasons = [texts.reason(name) for name in snapshot.reasons]

    def ranked(user: str) -> str:
        ranking = snapshot.ranking(META, user)
        assert ranking is not None
        assert len(ranking.sales) == KEPT
        rows = zip(*(values.tolist() for values in (*ranking, probability(ranking.scores))), strict=True)
        entries = []
        for position, score, reason, cover, chance in rows:
            sale = snapshot.sales[position]
            kind, text = reasons[reason]
            own = {"sale_id": sale.sale_id, "image_uri": sale.images[cover], "reason": kind, "reason_text": text}
            entries.append(own | {"score": round(score, 4), "probability": round(chance, 6)})
        return json.dumps(entries)

    return ranked
