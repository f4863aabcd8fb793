"""Explains a page: reasons and photos that a session's ranking lacks, contributions, and why places are empty."""

from recommendations.v1 import recommendations_pb2 as pb

from serving.answers import sentences
from serving.answers.pages import PageRequest, ServedPage
from serving.answers.session import SessionRanking


def explained(page: ServedPage, request: PageRequest, session: SessionRanking | None, n_open: int) -> ServedPage:
    """Return a page with all that it says of itself.

    Args:
        page: As it was made.
        request: What was asked for.
        session: What ranked the page, if a session's ranking did.
        n_open: How many sales of the snapshot are open, whatever the request admits.
    """
    if session is not None:
        page = page._replace(picks=session.explained(page.picks))
        if request.explain and page.level == pb.FALLBACK_LEVEL_NONE:
            page = page._replace(contributions=session.contributions(page.picks))
    if (n_shown := len(page.picks)) < request.n:
        is_restricted = bool(request.allowed or request.denied) or n_shown < n_open
        page = page._replace(shortfall=sentences.shortfall(n_shown, n_open, is_restricted))
    return page
