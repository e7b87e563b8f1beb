"""Examples to copy: a test of a page, of a model, and of a read after a write. Yours are here, or in an app's tests.py.

`client` and the mark `django_db` are pytest-django's: https://pytest-django.readthedocs.io
A factory makes a row, and fills in what the test does not name: https://factoryboy.readthedocs.io
"""

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError

from users.factories import UserFactory


# A test that asks no database needs no mark.
def test_a_page_that_asks_no_database(client):
    assert client.get("/livez").status_code == 200


# This one sees the primary alone, as most tests do. What it writes is rolled back at its end.
@pytest.mark.django_db
def test_a_page(client):
    UserFactory(username="ann", password="correct", is_staff=True)
    answer = client.post("/admin/login/?next=/admin/", {"username": "ann", "password": "correct"}, follow=True)
    assert answer.status_code == 200
    assert "Site administration" in answer.text


@pytest.mark.django_db
def test_a_model():
    UserFactory(email="ann@example.org")
    with pytest.raises(IntegrityError):
        UserFactory(email="ANN@example.org")


# This one names a replica, so it reads the real one. Its rows are committed, for nobody else sees a transaction; the
# tables are emptied at its end. The fixtures are in dbrouting/pytest_plugin.py.
@pytest.mark.django_db(transaction=True, databases=["default", "replica"])
def test_a_read_after_a_write(lsn_replayed):
    ann = UserFactory()
    # A replica is a moment behind: wait until it has the row.
    lsn_replayed()
    assert get_user_model().objects.using("replica").get() == ann
