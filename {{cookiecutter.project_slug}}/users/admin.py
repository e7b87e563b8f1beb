from django.contrib import admin
from django.contrib.auth import admin as auth_admin

from users.models import User


@admin.register(User)
class UserAdmin(auth_admin.UserAdmin):
    add_fieldsets = (*auth_admin.UserAdmin.add_fieldsets, (None, {"fields": ("email",)}))
