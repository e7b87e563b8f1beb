from django.contrib import admin

from .models import Article, Comment


@admin.register(Article)
class ArticleAdmin(admin.ModelAdmin):
    list_display = ["title", "author_name", "published_at", "created_at"]
    search_fields = ["title", "slug"]
    date_hierarchy = "published_at"
    prepopulated_fields = {"slug": ["title"]}
    # A filtered list would otherwise also count the whole table, only to print "3 results (9,000,000 total)".
    show_full_result_count = False


@admin.register(Comment)
class CommentAdmin(admin.ModelAdmin):
    list_display = ["author_name", "article", "created_at"]
    search_fields = ["author_name", "body"]
    # One join in place of a query for each row.
    list_select_related = ["article"]
    # A plain select box would list every article.
    autocomplete_fields = ["article"]
    show_full_result_count = False
    # No date_hierarchy: it would need one more index on the table that is written most.
