import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Article",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=200)),
                ("slug", models.SlugField(db_index=False, max_length=220)),
                ("author_name", models.CharField(max_length=80, verbose_name="author")),
                ("body", models.TextField()),
                (
                    "published_at",
                    models.DateTimeField(blank=True, help_text="Empty: a draft, which visitors cannot see.", null=True),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("published_at__isnull", False)),
                        fields=["-published_at", "-id"],
                        name="article_published_newest",
                    )
                ],
                "constraints": [models.UniqueConstraint(fields=("slug",), name="article_slug_unique")],
            },
        ),
        migrations.CreateModel(
            name="Comment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("author_name", models.CharField(max_length=80, verbose_name="name")),
                ("body", models.TextField(max_length=2000, verbose_name="comment")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "article",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="comments",
                        to="articles.article",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["article", "created_at", "id"], name="comment_of_article_in_order")],
            },
        ),
    ]
