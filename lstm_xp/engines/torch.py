"""To come."""

from lstm_xp.engines._request import Request


def supports(_request: Request) -> str | None:
    """Return why it cannot run a request."""
    return "it is not written yet"
