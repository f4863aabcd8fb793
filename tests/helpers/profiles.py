"""The aggregates of a data profile, counted by loops over rows: an oracle for Spark, and frames for small cases."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from recsys.data_profile.frames import ProfileFrames, Repeats
from recsys.instants import HOUR, MINUTE, to_micros
from tests.helpers.small_shop import Row


def frames_of(
    sales: Sequence[Row],
    events: Sequence[Row],
    photos: Mapping[str, Sequence[str]] | None = None,
    hours: float = 72,
) -> ProfileFrames:
    """Return the aggregates of rows of sales and events without copies, and of the addresses of each sale's photos."""
    windows = {row["sale_id"]: (to_micros(row["opens_at"]), to_micros(row["closes_at"])) for row in sales}
    by_hour, open_by_hour = Counter(), Counter()
    of_user, bought_by_user, bought_of_sale = Counter(), Counter(), defaultdict(list)
    times_of_sale = defaultdict(list)
    for row in events:
        user, sale, kind, at = row["user_id"], row["sale_id"], row["kind"], to_micros(row["occurred_at"])
        by_hour[at // HOUR * HOUR, kind] += 1
        open_by_hour[at // HOUR * HOUR, kind] += windows[sale][0] <= at < windows[sale][1]
        of_user[user] += 1
        times_of_sale[sale].append(at)
        if kind == "purchase":
            bought_by_user[user] += 1
            bought_of_sale[user, sale].append(at)
    gaps = [b - a for times in bought_of_sale.values() for a, b in zip(sorted(times), sorted(times)[1:], strict=False)]
    users = Counter((of_user[user], min(2, bought_by_user[user])) for user in of_user)
    sale_rows = [_sale_row(row, windows[row["sale_id"]], times_of_sale[row["sale_id"]], photos or {}) for row in sales]
    return ProfileFrames(
        hours=pd.DataFrame(
            [(*key, n, open_by_hour[key]) for key, n in sorted(by_hour.items())],
            columns=["hour", "kind", "events", "open_events"],
        ),
        users=pd.DataFrame([(*key, n) for key, n in sorted(users.items())], columns=["events", "purchases", "users"]),
        sales=pd.DataFrame(sorted(sale_rows, key=lambda row: row["sale_id"])),
        repeats=Repeats(
            sum(gap > 30 * MINUTE for gap in gaps), sum(30 * MINUTE < gap <= hours * HOUR for gap in gaps), hours
        ),
        times_of_day=tuple(sorted({f"{row['occurred_at']:%H:%M:%S}" for row in events})[:3]),
    )


def _sale_row(
    row: Row, window: tuple[int, int], times: Sequence[int], photos: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    uris = photos.get(row["sale_id"], ())
    return {
        "sale_id": row["sale_id"],
        "title": row["title"],
        "opens_at": window[0],
        "closes_at": window[1],
        "has_price": row["price"] is not None,
        "has_attributes": bool(row["attributes"]),
        "photos": len(uris),
        "cover": uris[0] if uris else None,
        "events": len(times),
        "first_event": min(times, default=0),
        "last_event": max(times, default=0),
    }
