"""`manage.py migrate` and its like, as Django's documentation writes them, beside a running site. The app `shop` and its
migrations are a user's: made by `makemigrations`, with data migrations of the forms that Django's documentation shows.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.baking import edit
from tests.devstack.devstack import MANAGE, Devstack, as_the_site, devstack, manage, sql
from tests.waiting import eventually

MODELS = """
from django.db import models

class Shelf(models.Model):
    name = models.CharField(max_length=50, unique=True)

class Item(models.Model):
    shelf = models.ForeignKey(Shelf, models.CASCADE, related_name="items")
    name = models.CharField(max_length=50, db_index=True)
    tags = models.ManyToManyField("Tag")

class Tag(models.Model):
    name = models.CharField(max_length=50)
"""
# After the migrations below.
MODELS_LATER = f"""{MODELS.replace("Tag", "Label")}
for model, name, field in (
    (Item, "price", models.IntegerField()),
    (Item, "note", models.TextField(default="", db_default="")),
    (Shelf, "code", models.IntegerField(db_index=True, null=True)),
):
    model.add_to_class(name, field)
"""
# By apps.get_model() alone; by the connection's alias; a child by its parent object.
ROWS = """
from django.db import migrations

def by_default(apps, schema_editor):
    apps.get_model("shop", "Shelf").objects.create(name="top")

def by_alias(apps, schema_editor):
    alias = schema_editor.connection.alias
    shelves = apps.get_model("shop", "Shelf").objects.using(alias)
    for shelf in shelves.all():
        shelf.save()
        item = apps.get_model("shop", "Item").objects.using(alias).create(shelf=shelf, name="lamp")
        item.tags.create(name="bright")
        shelf.items.add(apps.get_model("shop", "Item")(name="vase"), bulk=False)

class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(by_default), migrations.RunPython(by_alias, elidable=True)]
"""
# A column, and what is in it.
COLUMN = """
from django.db import migrations, models

def fill(apps, schema_editor):
    apps.get_model("shop", "Item").objects.filter(price=None).update(price=7)

class Migration(migrations.Migration):
    dependencies = [("shop", "0002_rows")]
    operations = [
        migrations.AddField("item", "price", models.IntegerField(null=True)),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField("item", "price", models.IntegerField()),
    ]
"""
# Django renames its permissions too, on another way than the operation's.
RENAMED = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("shop", "0003_column")]
    operations = [migrations.RenameModel("Tag", "Label")]
"""
WIDER = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "0004_renamed")]
    operations = [migrations.AddField("item", "note", models.TextField(default="", db_default=""))]
"""
INDEX = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "0005_wider")]
    operations = [migrations.AddField("shelf", "code", models.IntegerField(db_index=True, null=True))]
"""


def new_app(project: Path) -> None:
    """`startapp`, a model and `makemigrations`, as the tutorial does it."""
    manage(project, "startapp", "shop")
    (project / "shop" / "models.py").write_text(MODELS)
    settings = project / "config" / "settings.py"
    edit(settings, '    "users",\n', '    "users",\n    "shop",\n')
    manage(project, "makemigrations", "shop")
    (project / "shop" / "models.py").write_text(MODELS_LATER)


def migration(project: Path, name: str, text: str) -> None:
    (project / "shop" / "migrations" / f"{name}.py").write_text(text)


@pytest.fixture(scope="module")
def site(make_project: Callable[..., Path]) -> Iterator[Devstack]:
    """Running, while its developer goes on."""
    project = make_project("shop_site", replicas="1")
    with devstack(project) as stack:
        new_app(project)
        yield stack


def shell(project: Path, code: str) -> str:
    return manage(project, "shell", "--verbosity=0", "-c", code)


def test_data_migrations_of_each_form_apply_beside_a_running_site(site: Devstack) -> None:
    for name, text in (("0002_rows", ROWS), ("0003_column", COLUMN)):
        migration(site.project, name, text)
    assert "Applying shop.0003_column... OK" in manage(site.project, "migrate")
    assert sql(site.project, "primary", "SELECT name, price FROM shop_item ORDER BY name") == [("lamp", 7), ("vase", 7)]
    # What comes after the migration is in the same database: Django renames the permissions of a renamed model.
    migration(site.project, "0004_renamed", RENAMED)
    manage(site.project, "migrate")
    permissions = "SELECT codename FROM auth_permission WHERE codename ~ '_(tag|label)$' ORDER BY codename"
    assert [name for (name,) in sql(site.project, "primary", permissions)][:2] in (
        ["add_label", "change_label"],  # Django 6.1
        ["add_label", "add_tag"],  # 5.2 leaves the old ones
    )
    # The site may use what was made.
    with as_the_site(site.project) as visitor:
        assert visitor.execute("SELECT count(*) FROM shop_label").fetchone() == (1,)
    assert "No migrations to apply" in manage(site.project, "migrate")
    manage(site.project, "migrate", "shop", "0003")
    manage(site.project, "migrate")


def test_a_migration_that_waits_stops_no_visitor(site: Devstack) -> None:
    migration(site.project, "0005_wider", WIDER)
    with as_the_site(site.project) as holder, as_the_site(site.project) as visitor:
        holder.execute("BEGIN")
        holder.execute("SELECT count(*) FROM shop_item")
        command = [*MANAGE, "migrate"]
        with subprocess.Popen(command, cwd=site.project, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as migrating:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'shop_item'::regclass"
            for _ in range(2):
                eventually(lambda: sql(site.project, "primary", waiting) == [(1,)])
                # Behind the migration, which does not get its lock. It gives way before the role's own lock_timeout.
                assert visitor.execute("SELECT count(*) FROM shop_item").fetchone() == (2,)
            assert migrating.poll() is None
            holder.execute("COMMIT")
            printed, told = (stream.decode() for stream in migrating.communicate(timeout=120))
    assert migrating.returncode == 0, told
    assert "shop.0005_wider: a table was in use" in told
    assert printed.rstrip().endswith("OK"), printed


def test_a_migration_and_its_record_are_one_transaction(site: Devstack) -> None:
    """A migration with an index: Django by itself records it after the transaction that runs it, if at all."""
    migration(site.project, "0006_index", INDEX)
    refuse = "CREATE RULE refused AS ON INSERT TO django_migrations WHERE new.name = '0006_index' DO INSTEAD SELECT 1/0"
    sql(site.project, "primary", refuse)
    try:
        assert subprocess.run([*MANAGE, "migrate"], cwd=site.project, capture_output=True).returncode != 0
    finally:
        sql(site.project, "primary", "DROP RULE refused ON django_migrations")
    column = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'shop_shelf'::regclass AND attname = 'code'"
    assert sql(site.project, "primary", column) == [(0,)]
    assert "Applying shop.0006_index... OK" in manage(site.project, "migrate")


def test_a_dump_of_another_project_is_loaded(site: Devstack, tmp_path: Path) -> None:
    """By ids and by natural keys, with what belongs to others; and the sequences go on after it."""
    password = "argon2$never$used"
    dump = [
        {"model": "auth.group", "pk": 40, "fields": {"name": "editors", "permissions": [["add_article", "articles", "article"]]}},
        {"model": "auth.user", "pk": 50, "fields": {"username": "ann", "password": password, "groups": [["editors"]], "user_permissions": [["add_user", "auth", "user"]]}},
        {"model": "shop.shelf", "pk": 60, "fields": {"name": "bottom"}},
        {"model": "shop.label", "pk": 70, "fields": {"name": "red"}},
        {"model": "shop.item", "pk": 80, "fields": {"shelf": 60, "name": "box", "price": 1, "tags": [70], "note": ""}},
    ]  # fmt: skip
    file = tmp_path / "dump.json"
    sed = re.search(r"sed '.+?'", (site.project / "README.md").read_text())
    assert sed
    file.write_text(subprocess.check_output(shlex.split(sed[0]), input=json.dumps(dump), text=True))
    assert "Installed 5 object(s)" in manage(site.project, "loaddata", str(file))
    # The site's own role, by its pool.
    next_ids = (
        "from shop.models import Shelf; from django.contrib.auth.models import Group; from users.models import User;"
        "print(*(made.pk for made in (User.objects.create(username='bob'), Group.objects.create(name='g'),"
        " Shelf.objects.create(name='s'))))"
    )
    assert shell(site.project, next_ids).split() == ["51", "41", "61"]
    assert sql(site.project, "primary", "SELECT user_id, group_id FROM users_user_groups") == [(50, 40)]


def test_other_commands_of_the_owner(site: Devstack) -> None:
    settings = site.project / "config" / "settings.py"
    cache = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "pages"}}
    settings.write_text(f"{settings.read_text()}\nCACHES = {cache}\n")
    manage(site.project, "createcachetable")
    assert shell(site.project, "from django.core.cache import cache; cache.set('a', 1); print(cache.get('a'))") == "1\n"
    manage(site.project, "flush", "--noinput")
    assert sql(site.project, "primary", "SELECT count(*) FROM shop_item") == [(0,)]
    # What needs no owner is the site's: it goes through the pool.
    user = "from django.db import connection; print(connection.settings_dict['USER'])"
    assert shell(site.project, user) == "app\n"


def test_where_only_the_sites_password_is_the_command_says_what_to_run(site: Devstack, tmp_path: Path) -> None:
    (tmp_path / "app_password").write_text("x")
    done = subprocess.run(
        [*MANAGE, "loaddata", "dump"], cwd=site.project, capture_output=True, text=True, env={"SECRETS_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("`manage.py loaddata` runs as the role owner"), done.stderr
    assert "docker compose run --rm migrate python manage.py loaddata" in done.stderr
