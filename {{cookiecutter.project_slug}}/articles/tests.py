"""The example app, on the primary alone; the last test reads a real replica."""

from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from articles import views
from articles.factories import ArticleFactory, CommentFactory
from articles.models import Article, Comment
from articles.queries import most_discussed

pytestmark = pytest.mark.django_db


def seed(**options) -> None:
    call_command("seed_articles", verbosity=0, **options)


# Pages


def test_list_is_paged_newest_first(client):
    now = timezone.now()
    articles = [ArticleFactory(published_at=now - timedelta(hours=age)) for age in range(25)]
    assert list(client.get(reverse("articles:list")).context["page"]) == articles[:20]
    second = client.get(reverse("articles:list"), {"page": 2})
    assert list(second.context["page"]) == articles[20:]
    assert "Page 2 of 2" in second.text


@pytest.mark.parametrize("page", ["0", "-1", "999", "x"])
def test_list_answers_a_page_that_does_not_exist(client, page):
    article = ArticleFactory()
    assert article.title in client.get(reverse("articles:list"), {"page": page}).text


def test_list_without_articles(client):
    assert "Nothing is published yet" in client.get(reverse("articles:list")).text


def test_draft_is_not_listed_and_not_found(client):
    draft = ArticleFactory(published_at=None, title="Secret")
    assert "Secret" not in client.get(reverse("articles:list")).text
    response = client.get(draft.get_absolute_url())
    assert response.status_code == 404
    assert client.post(draft.get_absolute_url(), {"author_name": "Bo", "body": "Hi"}).status_code == 404


def test_comment_is_stored_and_shown(client):
    article = ArticleFactory()
    response = client.post(article.get_absolute_url(), {"author_name": "Bo", "body": "Well said."})
    assert (response.status_code, response.url) == (302, f"{article.get_absolute_url()}#comments")
    assert article.comments.get().author_name == "Bo"
    assert "Well said." in client.get(article.get_absolute_url()).text


@pytest.mark.parametrize(
    ("field", "value"), [("author_name", ""), ("author_name", "x" * 81), ("body", "  "), ("body", "x" * 2001)]
)
def test_invalid_comment_is_refused_beside_its_field(client, field, value):
    article = ArticleFactory()
    response = client.post(article.get_absolute_url(), {"author_name": "Bo", "body": "Hi", field: value})
    assert response.status_code == 200
    assert list(response.context["form"].errors) == [field]
    assert not Comment.objects.exists()


def test_comment_needs_the_csrf_token():
    article = ArticleFactory()
    response = Client(enforce_csrf_checks=True).post(article.get_absolute_url(), {"author_name": "Bo", "body": "Hi"})
    assert response.status_code == 403


def test_what_visitors_write_is_escaped(client):
    comment = CommentFactory(author_name="<i>Bo", body="<script>alert(1)</script>")
    text = client.get(comment.article.get_absolute_url()).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&lt;i&gt;Bo" in text
    assert "<script" not in text


def test_comments_are_newest_first_and_bounded(client, monkeypatch):
    monkeypatch.setattr(views, "COMMENTS_SHOWN", 2)
    article = ArticleFactory()
    for age in (3, 1, 2):
        created_at = timezone.now() - timedelta(hours=age)
        CommentFactory(article=article, body=f"{age} hours ago", created_at=created_at)
    response = client.get(article.get_absolute_url())
    assert [comment.body for comment in response.context["comments"]] == ["1 hours ago", "2 hours ago"]
    assert "There are older ones" in response.text


def test_unknown_page_is_404_without_a_query(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.get("/no/such/page/")
    assert response.status_code == 404


def test_admin_shows_both_models(admin_client):
    CommentFactory(article__title="Well", body="Well said.")
    for model in ("article", "comment"):
        assert ">Well<" in admin_client.get(reverse(f"admin:articles_{model}_changelist"), {"q": "well"}).text


# Queries


def test_most_discussed_agrees_with_the_orm(django_assert_num_queries):
    for number in range(1, 13):
        CommentFactory.create_batch(number % 5, article=ArticleFactory())
    CommentFactory.create_batch(6, article=ArticleFactory(published_at=None))
    with django_assert_num_queries(1):
        found = [(article.slug, article.title, article.comment_count) for article in most_discussed()]
    counted = Article.objects.filter(published_at__isnull=False).annotate(total=models.Count("comments"))
    expected = counted.filter(total__gt=0).order_by("-total", "-id").values_list("slug", "title", "total")
    assert found == list(expected[:10])
    assert len(found) == 10


def test_most_discussed_page_needs_one_query(client, django_assert_num_queries):
    CommentFactory.create_batch(3, article=ArticleFactory())
    with django_assert_num_queries(1):
        response = client.get(reverse("articles:most_discussed"))
    assert "<b>3</b> comments" in response.text


@pytest.mark.parametrize(
    ("queryset", "index"),
    [
        (lambda: Article.objects.published()[:20], "article_published_newest"),
        (lambda: Article.objects.filter(slug="slug-1"), "article_slug_unique"),
        (lambda: Comment.objects.filter(article=1).order_by("-created_at", "-id"), "comment_of_article_in_order"),
    ],
    ids=["list", "detail", "comments"],
)
def test_index_serves_its_query(queryset, index):
    with connection.cursor() as cursor:
        # A test's few rows fit in one page, which the planner reads by index only if it must.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
    plan = queryset().explain()
    assert index in plan
    assert "Sort" not in plan


# The footer


def test_the_footer_says_which_database_answered(client):
    response = client.get(ArticleFactory().get_absolute_url())
    assert '<span class="database primary">default</span> 2 queries' in response.text


# seed_articles


def test_seed_adds_and_adds_again():
    for run in (1, 2):
        seed(articles=50, comments=120, batch_size=30)
        assert Article.objects.count() == 50 * run
        assert Comment.objects.count() == 120 * run
    assert Article.objects.filter(published_at=None).count() == 10
    assert not Comment.objects.filter(article__published_at=None).exists()
    assert not Comment.objects.filter(created_at__lt=models.F("article__published_at")).exists()
    assert not Comment.objects.filter(created_at__gt=timezone.now()).exists()


def test_seed_has_the_same_words_for_the_same_table():
    words = []
    for _ in range(2):
        seed(articles=10, comments=10, batch_size=3)
        articles = Article.objects.order_by("id").values_list("title", "slug", "author_name", "body")
        comments = Comment.objects.order_by("id").values_list("article__slug", "author_name", "body")
        words.append([*articles, *comments])
        Article.objects.all().delete()
    assert words[0] == words[1]


def test_seed_has_favourites():
    seed(articles=100, comments=500)
    counts = [article.comment_count for article in most_discussed()]
    assert counts[0] > 5 * counts[9]


def test_seed_says_what_it_did():
    out = StringIO()
    call_command("seed_articles", articles=3, comments=0, stdout=out)
    assert out.getvalue() == "Added 3 articles and 0 comments.\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"articles": -1}, "--articles is -1: give 0 or more."),
        ({"comments": -2}, "--comments is -2: give 0 or more."),
        ({"batch_size": 0}, "--batch-size is 0: give 1 or more."),
        ({"articles": 0, "comments": 5}, "--comments is 5, but no article is published: give --articles 1 or more."),
    ],
)
def test_seed_refuses(options, message):
    with pytest.raises(CommandError) as error:
        seed(**options)
    assert str(error.value) == message
    assert not Article.objects.exists()


# The replica


@pytest.mark.django_db(transaction=True, databases=["default", "replica"])
def test_from_replica_says_so_without_a_replica(client, settings):
    settings.DBROUTING = {**settings.DBROUTING, "REPLICAS": []}
    assert "This project runs no replica" in client.get(reverse("articles:from_replica")).text


@pytest.mark.django_db(transaction=True, databases=["default", "replica"])
@pytest.mark.skipif(not settings.DBROUTING["REPLICAS"], reason="this project runs no replica")
def test_from_replica_reads_the_replica(client, eventually):
    ArticleFactory(title="It has arrived")
    url = reverse("articles:from_replica")
    eventually(lambda: "It has arrived" in client.get(url).text)
    assert '<span class="database replica">replica</span> 1 query' in client.get(url).text
