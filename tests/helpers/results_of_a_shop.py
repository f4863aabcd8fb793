"""A complete result of a backtest in the format of the job, and cover photos of its sales."""

from itertools import combinations
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from recsys.recommenders.content import IMAGES

ATTACK = "<script>alert('$x_$')</script>"
FEATURES = {
    "popularity": ("How much it is visited and bought these days", 0.41, 0.18, 0.118),
    "collaborative": ("Users of the same sales also looked at it", 0.62, 0.21, 0.141),
    "content_metadata": ("Country, region and category are like what the user looked at", 0.24, 0.05, 0.097),
    "content_text": ("Its text is like what the user looked at", 0.03, -0.01, 0.082),
    IMAGES: ("Its photos show what the user looked at", 0.29, 0.11, 0.131),
    "own_visits": ("The user visited this sale before", 0.55, 0.71, 0.152),
    "own_purchases": ("The user bought this sale before", 0.0, -0.93, 0.031),
    "price_fit": ("Its price is in the user's usual range", 0.12, 0.02, 0.064),
    "hours_open": ("How long it has been open", -0.22, -0.04, 0.055),
}
NDCG = {"meta": 0.2143, "meta_boosted": 0.2165, "meta@7": 0.2101} | {name: row[3] for name, row in FEATURES.items()}
COUNTRIES, CATEGORIES = ("Italy", "France", "Greece", "Morocco", "Austria"), ("city", "beach", "spa", "ski")
N_SALES, N_COVERS = 40, 25


def estimate(value: float, half_width: float) -> dict[str, float]:
    return {"value": value, "low": value - half_width, "high": value + 1.1 * half_width}


def result() -> dict[str, Any]:
    return {
        "window": window(),
        "policies": {name: measured(name, ndcg) for name, ndcg in NDCG.items()},
        "differences": {
            "meta - meta@7": differences(0.0042, 0.0031),
            "meta_boosted - meta": differences(0.0022, 0.0035),
        },
        "paired_ndcg@10": {
            f"{one} - {other}": estimate(NDCG[one] - NDCG[other], 0.0033) for one, other in combinations(NDCG, 2)
        },
        "oracle": {"ndcg@10": estimate(0.3012, 0.0074), "share": estimate(0.7115, 0.0221)},
        "ablation": [
            ablated(name, position, ndcg) for position, (name, (_, _, _, ndcg)) in enumerate(FEATURES.items())
        ],
        "learning_curve": [
            {"days": days, "examples": 610 * days, "ndcg@10": estimate(0.217 - 0.022 / days**0.6, 0.0061)}
            for days in (1, 3, 7, 14, 28)
        ],
        "slices": slices(),
        "slice_metrics": {title: "ndcg@10" if title == "history length" else "recall@10" for title in slices()},
        "calibration": calibration(),
        "predicted": {"all": 1.284, "all_made": 1.2, "shown": 0.86, "shown_made": 0.848},
        "coefficients": [
            {"feature": name, "words": words, "first": first, "repeat": repeat}
            for name, (words, first, repeat, _) in FEATURES.items()
        ],
        "training": {
            "meta": {"seconds": 0.84, "examples": 17_080},
            "meta_boosted": {"seconds": 12.6, "examples": 17_080},
        },
        "scoring": {"meta": 4.2, "meta_boosted": 231.0},
        "examples": [example(number) for number in range(10)],
        "sales": {f"sale-{number}": sale(number) for number in range(N_SALES)},
    }


def window() -> dict[str, Any]:
    return {
        "from": "2026-02-15",
        "to": "2026-02-28",
        "days": 14,
        "pages": 5_127,
        "users_sampled": 0.5,
        "seed": 0,
        "model": "home_ranker version 8",
        "trained_on": "28 days before 2026-02-15",
        "note": "A generated shop: its users choose by a known taste.",
        "versions": {"meta": "8", "meta@7": "7"},
        "new_only": False,
    }


def measured(name: str, ndcg: float) -> dict[str, Any]:
    row = {
        "ndcg@10": estimate(ndcg, 0.0071),
        "recall@10": estimate(1.62 * ndcg, 0.0112),
        "hit_rate@10": estimate(1.71 * ndcg, 0.0117),
        "mrr": estimate(0.83 * ndcg, 0.0068),
        "coverage": round(0.99 - 2 * abs(ndcg - 0.15), 3),
        "gini": round(0.86 - 1.5 * ndcg, 3),
        "novelty": round(6.1 + 9 * ndcg, 2),
        "users": 3_911,
    }
    return row | ({"auc": 0.8312, "log_loss": 0.02114, "calibration": 1.07} if name == "meta" else {})


def differences(value: float, half_width: float) -> dict[str, Any]:
    return {
        metric: estimate(value * scale, half_width)
        for metric, scale in (("ndcg@10", 1), ("recall@10", 1.6), ("mrr", 0.8))
    }


def ablated(name: str, position: int, ndcg: float) -> dict[str, Any]:
    removed = (0.0061, 0.0212, 0.0044, 0.0003, 0.0113, 0.0305, 0.0091, 0.0011, 0.0023)[position]
    return {
        "feature": name,
        "alone": estimate(ndcg, 0.0067),
        "added": estimate(max(0.0, ndcg - 0.07) / 2, 0.0031),
        "removed": estimate(removed, 0.0021),
    }


def slices() -> dict[str, Any]:
    return {
        "history length": sliced(("0", "1 to 4", "5 to 19", "20 or more"), (412, 1_433, 2_010, 1_272), "pages", -0.06),
        "sale age": sliced(
            ("under 12 hours", "12 to 24 hours", "1 to 3 days", "over 3 days"), (390, 721, 2_204, 2_017)
        ),
        "country": sliced(COUNTRIES, (2_104, 1_322, 803, 611, 492)),
        "category": sliced(CATEGORIES, (2_011, 1_602, 1_217, 502)),
        "price": sliced(("under 100", "100 to 200", "200 to 400", "over 400"), (702, 2_211, 1_814, 605)),
    }


def sliced(
    names: tuple[str, ...], counts: tuple[int, ...], counted: str = "purchases", start: float = -0.03
) -> list[dict]:
    shown = ("meta", "popularity", "collaborative", IMAGES)
    return [
        {
            "name": name,
            counted: count,
            "policies": {p: estimate(max(0.01, NDCG[p] + start + 0.025 * position), 0.3 / count**0.5) for p in shown},
        }
        for position, (name, count) in enumerate(zip(names, counts, strict=True))
    ]


def calibration() -> list[dict[str, Any]]:
    predicted = (0.0004, 0.0009, 0.0016, 0.0026, 0.0041, 0.0065, 0.0102, 0.0171, 0.0323, 0.0912)
    ratios = (0.0, 0.6, 1.4, 0.9, 1.1, 0.95, 1.04, 0.97, 0.91, 0.88)
    sales = 40_000.0
    return [
        {
            "predicted": p,
            "made": p * ratio,
            "low": max(0.0, p * ratio - 2 * (p * ratio / sales) ** 0.5),
            "high": p * ratio + 2 * (max(p * ratio, 1e-5) / sales) ** 0.5,
            "purchases": round(p * ratio * sales),
            "sales": sales,
        }
        for p, ratio in zip(predicted, ratios, strict=True)
    ]


def example(number: int) -> dict[str, Any]:
    sales = [f"sale-{(7 * number + 3 * position) % N_SALES}" for position in range(30)]
    bought = [sales[2], *([sales[9]] if number % 3 == 0 else [])]
    return {
        "user_id": f"user-{100 + number}",
        "as_of": f"2026-02-{15 + number}",
        "events": 0 if number == 9 else 3 + 5 * number,
        "visited": [] if number == 9 else sales[20 : 20 + min(8, 2 + number)],
        "purchased": sales[21:22] if number % 2 else [],
        "bought": bought,
        "pages": {"collaborative": sales[3:13], IMAGES: sales[8:18], "meta": sales[:10]},
    }


def sale(number: int) -> dict[str, Any]:
    title = ("Quiet house by the harbour", "Grand hotel, two nights with breakfast", "Spa week", "Old town loft")[
        number % 4
    ]
    values = {
        "title": f"{title} {number}",
        "country": COUNTRIES[number % 5],
        "category": CATEGORIES[number % 4],
        "price": 79.0 + 13 * number,
    }
    return values | (
        {"cover": f"photos/{number}.jpg"} if number < N_COVERS + 3 else {}
    )  # three of the files are missing


def write_covers(root: Path) -> None:
    (root / "photos").mkdir(parents=True)
    for number in range(N_COVERS):
        photo = Image.new("RGB", (320, 240), (40 + 8 * number, 120, 240 - 8 * number))
        ImageDraw.Draw(photo).ellipse((60 + 5 * number, 40, 160 + 5 * number, 140), fill=(250, 220, 8 * number))
        photo.save(root / "photos" / f"{number}.jpg")
