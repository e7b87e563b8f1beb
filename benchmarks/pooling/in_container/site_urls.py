"""Three works. Each answers with as many bytes as `nothing`, the bound."""

from random import randrange

from articles.models import Article, Comment
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from works import ARTICLES, BYTES, slug, target


def answer(text: str) -> HttpResponse:
    return HttpResponse(text.ljust(BYTES)[:BYTES])


def an_article() -> Article:
    return Article.objects.defer("body").get(slug=slug(randrange(ARTICLES)))


def read(request: HttpRequest) -> HttpResponse:
    """One row by an index."""
    return answer(an_article().title)


def nothing(request: HttpRequest) -> HttpResponse:
    return answer(slug(randrange(ARTICLES)))


def atomic(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        article = an_article()
        newest = list(article.comments.order_by("-created_at", "-id")[:5])
        count = article.comments.count()
    return answer(f"{article.title} {len(newest)} {count}")


def write(request: HttpRequest) -> HttpResponse:
    """One INSERT."""
    comment = Comment.objects.create(article_id=target(), author_name="a visitor", body="What I think of it.")
    return answer(str(comment.pk))


urlpatterns = [
    path("read", nothing if settings.SITE == "nothing" else read),
    path("atomic", atomic),
    path("write", write),
]
