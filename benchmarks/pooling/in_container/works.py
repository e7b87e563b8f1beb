"""The rows that the works are about."""

from functools import cache

ARTICLES = 200
BYTES = 80


def slug(number: int) -> str:
    return f"bench-{number}"


@cache
def target() -> int:
    """The article that takes all comments which are written: reads of the others stay as small as they are."""
    from articles.models import Article

    return Article.objects.using("default").get(slug=slug(ARTICLES)).pk
