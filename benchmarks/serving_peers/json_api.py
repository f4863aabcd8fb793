"""The simplest service: FastAPI over Redis, each user's ranking as JSON, the sales in memory.

    SHOP_REDIS=redis://127.0.0.1:6379 SHOP_CLOCK=2026-03-01T01:00:00+00:00 uvicorn benchmarks.serving_peers.json_api:app

It answers the same page, without exposure log, metrics, sessions and rules.
"""

import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

from fastapi import FastAPI, Query
from pydantic import BaseModel
from redis.asyncio import Redis

SALES = "sales"
POPULAR = "ranking:"


class Sale(BaseModel):
    """A sale of the page; `rank` is its position, from 1."""

    rank: int
    sale_id: str
    title: str
    price: float | None
    opens_at: int
    closes_at: int
    image_uri: str
    reason: str
    reason_text: str
    score: float
    probability: float


class Page(BaseModel):
    """The answer: a page of sales."""

    policy: str
    model_version: str
    snapshot: str
    as_of: int
    answered_at: int
    request_id: str
    sales: list[Sale]


class Shop:
    """Data that is read once, at the start."""

    redis: Redis
    sales: dict[str, dict]
    about: dict
    shift: float


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Connect to Redis and read the sales; disconnect at the end."""
    Shop.redis = Redis.from_url(os.environ["SHOP_REDIS"])
    shop = json.loads(await Shop.redis.get(SALES) or b"")
    Shop.sales, Shop.about = shop["sales"], shop["about"]
    Shop.shift = datetime.fromisoformat(os.environ["SHOP_CLOCK"]).timestamp() - time.time()
    yield
    await Shop.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/top-sales/{user_id}")
async def top_sales(user_id: str, n: Annotated[int, Query(ge=1, le=100)] = 10) -> Page:
    """Return the open sales that the user is most likely to buy."""
    found = await Shop.redis.get(f"ranking:{user_id}") or await Shop.redis.get(POPULAR)
    now, sales = int((time.time() + Shop.shift) * 1e6), Shop.sales
    ranking = json.loads(found or b"[]")
    shown = [
        each for each in ranking if sales[each["sale_id"]]["opens_at"] <= now < sales[each["sale_id"]]["closes_at"]
    ]
    page = [Sale(rank=rank, **sales[each["sale_id"]], **each) for rank, each in enumerate(shown[:n], 1)]
    return Page(**Shop.about, answered_at=now, request_id=uuid.uuid4().hex, sales=page)
