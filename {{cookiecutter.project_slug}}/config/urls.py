from django.conf import settings
from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path

from config.health import livez, readyz
from config.media import serve_media

urlpatterns = [
    path("livez", livez),
    path("readyz", readyz),
    # The admin's login page links to it, and the link in the mail leads to the last two.
    path("admin/password_reset/", auth.PasswordResetView.as_view(), name="admin_password_reset"),
    path("admin/password_reset/done/", auth.PasswordResetDoneView.as_view(), name="password_reset_done"),
    path("reset/<uidb64>/<token>/", auth.PasswordResetConfirmView.as_view(), name="password_reset_confirm"),
    path("reset/done/", auth.PasswordResetCompleteView.as_view(), name="password_reset_complete"),
    path("admin/", admin.site.urls),
    path(f"{settings.MEDIA_URL.lstrip('/')}<path:path>", serve_media),
    path("", include("articles.urls")),  # remove-example
]
if settings.DEBUG_TOOLBAR:
    from debug_toolbar.toolbar import debug_toolbar_urls

    urlpatterns += debug_toolbar_urls()
