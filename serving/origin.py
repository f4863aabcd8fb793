"""Where a page comes from, in one line for people."""

from recommendations.v1 import recommendations_pb2 as pb


def origin(user_id: str, page: pb.GetTopSalesResponse) -> str:
    """Return whose page it is, what ranked it, from which snapshot, by which fallback, and for which instant."""
    parts = [
        f"user {user_id or '(anonymous)'}",
        f"policy {page.policy}",
        f"model version {page.model_version or '(none)'}",
        f"snapshot {page.snapshot}",
        f"fallback {pb.FallbackLevel.Name(page.fallback_level).removeprefix('FALLBACK_LEVEL_').lower()}",
        f"{page.answer_time.ToDatetime():%Y-%m-%d %H:%M} UTC",
    ]
    if page.uses_session:
        parts.insert(2, "with the session")
    return " · ".join(parts)
