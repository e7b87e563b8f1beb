"""The project's own user model."""

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.test import Client

from users.factories import UserFactory
from users.models import User

pytestmark = pytest.mark.django_db


def test_it_is_the_projects_own() -> None:
    assert get_user_model() is User


@pytest.mark.parametrize("name", ["ann", "ann@example.org", "ANN@Example.org"])
def test_a_user_logs_in_by_name_or_address(name: str) -> None:
    ann = UserFactory(username="ann", password="correct")
    assert authenticate(username=name, password="correct") == ann
    assert authenticate(username=name, password="wrong") is None


def test_an_address_belongs_to_who_has_it_not_to_who_is_called_so() -> None:
    ann = UserFactory(email="ann@example.org", password="correct")
    UserFactory(username="ann@example.org", email="eve@example.org", password="eve's")
    assert authenticate(username="ann@example.org", password="correct") == ann
    assert authenticate(username="ann@example.org", password="eve's") is None


def test_an_address_is_one_users_in_any_letters() -> None:
    UserFactory(email="ann@example.org")
    with pytest.raises(ValidationError, match="already exists"):
        User(username="bob", email="Ann@Example.org", password="!").full_clean()
    with pytest.raises(IntegrityError):
        UserFactory(email="Ann@Example.org")


def test_many_users_have_no_address() -> None:
    UserFactory.create_batch(2, email="")
    assert User.objects.filter(email="").count() == 2


def test_the_admin_adds_and_changes_a_user(client: Client) -> None:
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    password = {"password1": "a long secret 77", "password2": "a long secret 77", "usable_password": "true"}
    answer = client.post("/admin/users/user/add/", {"username": "ann", "email": "ann@example.org", **password})
    ann = authenticate(username="ann@example.org", password="a long secret 77")
    assert answer.status_code == 302 and ann
    assert client.get(f"/admin/users/user/{ann.pk}/change/").status_code == 200
    answer = client.post(
        "/admin/users/user/add/", {"username": "bob", "email": "ANN@example.org", **password}, follow=True
    )
    assert "already exists" in answer.content.decode()
