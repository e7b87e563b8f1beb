"""Plain views that name no database: which one answers is the router's business. `from_replica` is the exception."""

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods, require_safe

from . import queries
from .forms import CommentForm
from .models import Article

ARTICLES_PER_PAGE = 20
# A bound, so that a much discussed article is no slower than any other.
COMMENTS_SHOWN = 100


@require_safe
def article_list(request: HttpRequest) -> HttpResponse:
    """All published articles, newest first. `get_page` answers a page that does not exist with the nearest one."""
    paginator = Paginator(Article.objects.published().with_teaser(), ARTICLES_PER_PAGE)
    return render(request, "articles/list.html", {"page": paginator.get_page(request.GET.get("page"))})


@require_http_methods(["GET", "HEAD", "POST"])
def article_detail(request: HttpRequest, slug: str) -> HttpResponse:
    """An article, its newest comments, and a form for one more.

    The redirect after a comment is the moment at which a stale replica would show: the very next request
    must contain the row that this one wrote.
    """
    article = get_object_or_404(Article.objects.published(), slug=slug)
    form = CommentForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.instance.article = article
        form.save()
        return HttpResponseRedirect(f"{article.get_absolute_url()}#comments")
    # One more than is shown tells whether there are older ones, without a count.
    comments = list(article.comments.order_by("-created_at", "-id")[: COMMENTS_SHOWN + 1])
    context = {
        "article": article,
        "comments": comments[:COMMENTS_SHOWN],
        "has_older_comments": len(comments) > COMMENTS_SHOWN,
        "form": form,
    }
    return render(request, "articles/detail.html", context)


@require_safe
def most_discussed(request: HttpRequest) -> HttpResponse:
    """The ten articles with the most comments, by one SQL query."""
    return render(request, "articles/most_discussed.html", {"articles": queries.most_discussed()})


@require_safe
def from_replica(request: HttpRequest) -> HttpResponse:
    """The newest articles, read from the alias `replica` by name: no router is asked, so they may be stale."""
    articles = Article.objects.using("replica").published().with_teaser()[:ARTICLES_PER_PAGE]
    # With REPLICAS=0 the alias is there too, and means the primary.
    context = {"articles": articles, "has_replica": bool(settings.DBROUTING["REPLICAS"])}
    return render(request, "articles/from_replica.html", context)
