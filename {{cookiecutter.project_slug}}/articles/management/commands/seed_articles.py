from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, models, reset_queries
from django.utils import timezone
from factory.random import reseed_random
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from articles.factories import ArticleFactory, CommentFactory
from articles.models import Article, Comment

# Comments go to at most so many articles, the newest ones: without their bodies they fit in memory
# whatever the table's size.
ARTICLES_COMMENTED = 10_000


class Command(BaseCommand):
    help = "Adds invented articles and comments. Run it again for more: it never changes what is there."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--articles", type=int, default=200, metavar="N", help="How many (default: 200).")
        parser.add_argument("--comments", type=int, default=1000, metavar="M", help="How many (default: 1000).")
        parser.add_argument(
            "--batch-size", type=int, default=1000, metavar="B", help="Rows per INSERT (default: 1000)."
        )

    def handle(self, *, articles: int, comments: int, batch_size: int, verbosity: int, **options: Any) -> None:
        require("--articles", articles, minimum=0)
        require("--comments", comments, minimum=0)
        require("--batch-size", batch_size, minimum=1)
        now = timezone.now()
        # The bar goes to stderr, so that stdout holds the result alone.
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=verbosity == 0,
        ) as progress:
            task = progress.add_task("Articles", total=articles)
            insert(invented_articles(articles, now), batch_size, progress, task)
            task = progress.add_task("Comments", total=comments)
            insert(invented_comments(comments, now), batch_size, progress, task)
        if verbosity > 0:
            self.stdout.write(self.style.SUCCESS(f"Added {articles:,} articles and {comments:,} comments."))


def require(option: str, value: int, *, minimum: int) -> None:
    if value < minimum:
        raise CommandError(f"{option} is {value}: give {minimum} or more.")


def insert(rows: Iterator[models.Model], batch_size: int, progress: Progress, task: TaskID) -> None:
    """Insert the rows a batch at a time, each in a transaction of its own: memory stays flat for any number."""
    while batch := list(islice(rows, batch_size)):
        type(batch[0])._default_manager.using(DEFAULT_DB_ALIAS).bulk_create(batch)
        # With DEBUG on, Django keeps the last 9,000 statements, and each of these is a whole batch.
        reset_queries()
        progress.advance(task, len(batch))


def last_id(model: type[models.Model]) -> int:
    """Asked of the primary by name, as all else here: a replica may not have the last run's rows yet."""
    return model._default_manager.using(DEFAULT_DB_ALIAS).aggregate(last=models.Max("id"))["last"] or 0


def invented_articles(count: int, now: datetime) -> Iterator[Article]:
    """Articles from the last three years, every tenth a draft. The same table gets the same words each time."""
    # Numbered on from the last id, so that a second run makes other slugs.
    last = last_id(Article)
    rng = Random(last)
    reseed_random(last)
    for number in range(last + 1, last + count + 1):
        created_at = now - timedelta(minutes=rng.randrange(60 * 24 * 365 * 3))
        published_at = None if number % 10 == 0 else created_at
        yield ArticleFactory.build(__sequence=number, created_at=created_at, published_at=published_at)


def invented_comments(count: int, now: datetime) -> Iterator[Comment]:
    """Comments written after their articles: a few articles get most of them, as in life."""
    if not count:
        return
    newest = Article.objects.using(DEFAULT_DB_ALIAS).published().only("published_at")
    articles = list(newest[:ARTICLES_COMMENTED])
    if not articles:
        raise CommandError(f"--comments is {count}, but no article is published: give --articles 1 or more.")
    last = last_id(Comment)
    rng = Random(last)
    reseed_random(last)
    rng.shuffle(articles)
    for _ in range(count):
        # Pareto's long tail, wrapped around where it is longer than the list: the first article is the favourite.
        article = articles[int(rng.paretovariate(0.6) - 1) % len(articles)]
        created_at = article.published_at + (now - article.published_at) * rng.random()
        yield CommentFactory.build(article=article, created_at=created_at)
