"""What people upload, in the served shape."""

from tests.stack.stack import Stack


def test_an_upload_outlives_its_container(default_stack: Stack) -> None:
    stack = default_stack
    save = "from django.core.files.base import ContentFile as File;"
    save += "from django.core.files.storage import default_storage as files; print(files.save('a.txt', File(b'kept')))"
    name = stack.shell(save).split()[-1]
    assert stack.get(f"/media/{name}").text == "kept"
    stack.compose("up", "--detach", "--wait", "--no-deps", "--force-recreate", "web")
    assert stack.get(f"/media/{name}").text == "kept"
