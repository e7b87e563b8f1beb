from django.urls import path

from . import views

app_name = "articles"

urlpatterns = [
    path("", views.article_list, name="list"),
    path("articles/<slug:slug>/", views.article_detail, name="detail"),
    path("most-discussed/", views.most_discussed, name="most_discussed"),
    path("from-replica/", views.from_replica, name="from_replica"),
]
