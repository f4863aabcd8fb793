"""Adds explanations to a page: reasons, photos, contributions, and why it holds fewer sales than requested."""

from recommendations.v1 import recommendations_pb2 as pb

from serving.answers import sentences
from serving.answers.pages import PageRequest, ServedPage
from serving.answers.session import SessionRanking


def explained(page: ServedPage, request: PageRequest, scores: SessionRanking | None, n_open: int) -> ServedPage:
    """Return a page with its explanations; its sales and their order stay.

    Args:
        page: The page as `PageMaker` returns it.
        request: The request that it answers.
        scores: The user's scores, where they ranked the page or are to explain it.
        n_open: The number of open sales of the snapshot, including those that the request excludes.
    """
    if scores is not None:
        page = page._replace(picks=scores.explained(page.picks))
        if request.explain and page.level == pb.FALLBACK_LEVEL_NONE:
            page = page._replace(contributions=scores.contributions(page.picks))
    if (n_shown := len(page.picks)) < request.n:
        is_restricted = bool(request.allowed or request.denied) or n_shown < n_open
        page = page._replace(shortfall=sentences.shortfall(n_shown, n_open, is_restricted))
    return page
