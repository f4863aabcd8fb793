"""What the service says in plain English."""

REASONS = {
    "own_visits": "You looked at this sale",
    "own_purchases": "You bought in this sale before",
    "collaborative": "Like sales you looked at",
    "als": "Liked by people with your taste",
    "content_metadata": "Matches your taste in places and categories",
    "content_text": "Reads like sales you looked at",
    "content_images": "Looks like sales you looked at",
    "popularity": "Popular right now",
    "hours_open": "Just opened",
    "hours_left": "Closes soon",
    "price_gap": "In the price range you look at",
    "open": "Open now",
}
"""What the website shows for the kind of evidence that speaks most for a sale."""

OTHER_REASON = "Chosen for you"
"""For evidence without a sentence of its own."""

ANONYMOUS = "No user_id was given: popular sales are shown."
UNKNOWN_USER = "The snapshot has no ranking for this user: popular sales are shown."
NONE_OF_HIS_OPEN = "No sale of this user's ranking is open: popular sales are shown."
NO_RANKED_OPEN = "No ranking holds an open sale: all open sales are shown, the soonest to close first."


def reason(name: str) -> tuple[str, str]:
    """Return the kind of evidence and the sentence of a reason, such as `popularity` or `content_images/pool`."""
    kind, _, detail = name.partition("/")
    return kind, f"Because you looked at {detail}" if detail else REASONS.get(kind, OTHER_REASON)


def shortfall(n_open: int) -> str:
    """Say why fewer sales than asked for are shown."""
    if n_open == 0:
        return "No sale is open."
    return "Only 1 sale is open." if n_open == 1 else f"Only {n_open} sales are open."
