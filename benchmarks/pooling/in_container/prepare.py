"""manage.py shell < prepare.py, as the owner: the rows, once."""

from articles.models import Article, Comment
from django.utils import timezone
from works import ARTICLES, slug

if not Article.objects.filter(slug=slug(0)).exists():
    articles = Article.objects.bulk_create(
        Article(title=f"Article {number}", slug=slug(number), author_name="somebody", body="…" * 2000,
                published_at=timezone.now())
        for number in range(ARTICLES + 1)
    )  # fmt: skip
    Comment.objects.bulk_create(
        Comment(article=article, author_name="a visitor", body="What I think of it.")
        for article in articles[:ARTICLES]
        for _ in range(10)
    )
