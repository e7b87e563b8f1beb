from __future__ import annotations

from django.db import models
from django.db.models.functions import Left
from django.urls import reverse
from django.utils import timezone


class ArticleQuerySet(models.QuerySet["Article"]):
    def published(self) -> ArticleQuerySet:
        """What a visitor may see, newest first: the rows and the order of the index `article_published_newest`."""
        return self.filter(published_at__isnull=False).order_by("-published_at", "-id")

    def with_teaser(self) -> ArticleQuerySet:
        """The beginning of each body in place of the whole, which a list would fetch only to throw away."""
        return self.defer("body").annotate(teaser=Left("body", 400))


class Article(models.Model):
    """Something to read. Without `published_at` it is a draft, which only the admin shows."""

    title = models.CharField(max_length=200)
    # Unique by the constraint below: `unique=True` would add a second index, for LIKE, that no query uses.
    slug = models.SlugField(max_length=220, db_index=False)
    author_name = models.CharField("author", max_length=80)
    body = models.TextField()
    published_at = models.DateTimeField(null=True, blank=True, help_text="Empty: a draft, which visitors cannot see.")
    # A default and not auto_now_add, so that `seed_articles` can spread its rows over time.
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = ArticleQuerySet.as_manager()

    # Present only on what `queries.most_discussed` returns.
    comment_count: int

    class Meta:
        constraints = [
            # Serves the article's page: WHERE slug = …
            models.UniqueConstraint(fields=["slug"], name="article_slug_unique"),
        ]
        indexes = [
            # Serves the lists, their COUNT(*), and the admin's date hierarchy: WHERE published_at IS NOT NULL
            # ORDER BY published_at DESC, id DESC. Partial, so that drafts cost it nothing; `id` makes the order
            # total, without which two pages could show the same article.
            models.Index(
                fields=["-published_at", "-id"],
                condition=models.Q(published_at__isnull=False),
                name="article_published_newest",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("articles:detail", args=[self.slug])


class Comment(models.Model):
    """Something to write: what a visitor must see at once after sending it, whatever the replicas do."""

    # db_index=False: the index below begins with this column, so it also serves joins and cascading deletes.
    article = models.ForeignKey(Article, on_delete=models.CASCADE, related_name="comments", db_index=False)
    author_name = models.CharField("name", max_length=80)
    body = models.TextField("comment", max_length=2000)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = [
            # Serves an article's comments, read backwards for newest first: WHERE article_id = …
            # ORDER BY created_at DESC, id DESC. The ids make the order total.
            models.Index(fields=["article", "created_at", "id"], name="comment_of_article_in_order"),
        ]

    def __str__(self) -> str:
        return f"{self.author_name}, {self.created_at:%Y-%m-%d %H:%M}"
