"""A shop whose users have one of two tastes, for towers that learn."""

from recsys.recommenders.towers import TowersSettings
from recsys.testing.shops import ShopData, make_shop, sale, visit

TOWERS = TowersSettings(dims=4, days=12, stopping_days=2, min_events=20, learning_rate=0.02)
USERS = [f"u{number:02d}" for number in range(30)]


def shop_of_two_tastes() -> ShopData:
    """Return a shop with two sales of each category a day; even users look at spas, odd ones at skis, all at the cheap.

    Each day has its own sales, so that none of the past is open. Users choose the cheap one four times of five. Each
    evening a fifth sale opens, which nobody has looked at by then.
    """
    kinds = ["spa", "ski"]
    sales = [
        sale(f"{kind}{day:02d}{price}", -day, 1 - day, category=kind, price=price)
        for day in range(20)
        for kind in kinds
        for price in (10, 100)
    ] + [sale(f"z-golf{day:02d}", 0.9 - day, 1 - day, category="golf", price=10) for day in range(20)]
    events = [
        visit(user, f"{kinds[number % 2]}{day:02d}{10 if (number + day) % 5 else 100}", -day + 0.3 + 0.01 * number)
        for day in range(1, 20)
        for number, user in enumerate(USERS)
        if (number * 7 + day) % 3
    ]
    return make_shop(sales, events, USERS)
