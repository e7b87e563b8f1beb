import factory
from factory.django import DjangoModelFactory, Password

from users.models import User


class UserFactory(DjangoModelFactory):
    """`UserFactory()` is a user for a test, `UserFactory(username="ann", password="secret")` one who can log in."""

    class Meta:
        model = User
        # Else a post_generation of yours saves each user a second time, and warns that it will not in factory_boy 4.
        skip_postgeneration_save = True

    username = factory.Sequence(lambda number: f"user{number}")
    email = factory.LazyAttribute(lambda user: f"{user.username}@example.org")
    first_name = factory.Faker("first_name")
    last_name = factory.Faker("last_name")
    # It hashes what it is given. The default is no password: a hash takes time that most tests need not spend.
    password = Password(None)
