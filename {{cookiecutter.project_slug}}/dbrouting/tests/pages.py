"""URLs of a site for tests: the project's own, and a page that lists rows and takes new ones.

The rows are Django's groups, which each project has. Each page ends with the databases that have answered.
"""

from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import path

from config.urls import urlpatterns as of_the_project


def page(request: HttpRequest, rows: QuerySet[Group]) -> HttpResponse:
    names = "".join(f"{group.name}\n" for group in rows)
    return HttpResponse(names + render_to_string("_routing.html", request=request))


def groups(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        Group.objects.create(name=request.POST["name"])
        return redirect(groups)
    return page(request, Group.objects.order_by("name"))


def from_replica(request: HttpRequest) -> HttpResponse:
    """No router is asked."""
    return page(request, Group.objects.using("replica"))


urlpatterns = [path("groups/", groups), path("from-replica/groups/", from_replica), *of_the_project]
