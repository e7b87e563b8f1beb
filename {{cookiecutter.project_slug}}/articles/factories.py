import factory
from django.utils import timezone
from django.utils.text import slugify
from factory.django import DjangoModelFactory

from articles.models import Article, Comment


class ArticleFactory(DjangoModelFactory):
    """A published article; with `published_at=None` a draft."""

    class Meta:
        model = Article

    class Params:
        paragraphs = factory.List([factory.Faker("paragraph", nb_sentences=7)] * 4)

    title = factory.Faker("catch_phrase")
    slug = factory.LazyAttributeSequence(lambda article, number: f"{slugify(article.title)}-{number}")
    author_name = factory.Faker("name")
    body = factory.LazyAttribute(lambda article: "\n\n".join(article.paragraphs))
    published_at = factory.LazyFunction(timezone.now)


class CommentFactory(DjangoModelFactory):
    class Meta:
        model = Comment

    article = factory.SubFactory(ArticleFactory)
    author_name = factory.Faker("name")
    body = factory.Faker("paragraph")
