"""Django's settings. The choices are in .env; in the container they are its environment."""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import django
import environ
from django.core.exceptions import ImproperlyConfigured

from config.cache import cache
from config.databases import connection_settings, databases, owner_databases
from config.logs import logging_config
from config.mail import email_settings, mailer
from config.media import media_source, media_storage
from config.proxies import trusted_proxies
from config.site_url import site_hosts

BASE_DIR = Path(__file__).resolve().parent.parent

# FileAwareEnv: each X may be given as X_FILE, the file that holds it, with its newline, which a URL ignores.
env = environ.FileAwareEnv()
# What is set already wins: the container's environment, then a running devstack's addresses, then .env.
for _path in (BASE_DIR / ".devstack" / "env", BASE_DIR / ".env"):
    if _path.is_file():
        env.read_env(_path)

# Where compose mounts the secrets; without it, where they are made. Others use the first directory too, so what counts
# is that ours are in it.
_mounted = Path("/run/secrets")
SECRETS_DIR = Path(
    env.str("SECRETS_DIR", str(_mounted if (_mounted / "secret_key").is_file() else BASE_DIR / "secrets"))
)


def number(name: str, default: int) -> int:
    """:raises ImproperlyConfigured: for a value that is no whole number."""
    try:
        return int(env.int(name, default))
    except ValueError:
        raise ImproperlyConfigured(f"{name} is {env.str(name)!r}. Give a whole number in .env.") from None


def secret(name: str) -> str:
    """The value of the environment's NAME or NAME_FILE, otherwise of the file `name` in SECRETS_DIR."""
    path = SECRETS_DIR / name.lower()
    return str(env.str(name, path.read_text() if path.is_file() else "")).strip()


# Django refuses an empty key itself, and says which setting it is.
SECRET_KEY = secret("SECRET_KEY")
DEBUG = env.bool("DEBUG", False)
# Whether each page ends with the databases that have answered, and why those.
SHOW_ROUTING = DEBUG or env.bool("SHOW_ROUTING", False)

# The first is the one that visitors are told; what it says of HTTPS counts for all.
_site = site_hosts(env.str("SITE_URL", "http://localhost:8000"))
CSRF_TRUSTED_ORIGINS = list(_site)
SITE_URL = CSRF_TRUSTED_ORIGINS[0]
# The health check inside the container asks by address.
ALLOWED_HOSTS = [*_site.values(), "localhost", "127.0.0.1"]

with (BASE_DIR / "pyproject.toml").open("rb") as _file:
    SITE_NAME: str = tomllib.load(_file)["tool"]["site"]["name"]

# Databases ------------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/ref/databases/

POOL_MODE = env.str("POOL_MODE", "transaction")
CONNECTION_STRATEGY = env.str("CONNECTION_STRATEGY", "persistent")
WEB_WORKER = env.str("WEB_WORKER", "gthread")
REPLICAS = number("REPLICAS", 3)
SYNCHRONOUS_COMMIT = env.str("SYNCHRONOUS_COMMIT", "local")

# Commands that run as the owner of the schema, on the primary itself: they change the schema, reset sequences, or need
# a session. Add those of your packages. DATABASE_AS_OWNER does the same for any command, as in the service `migrate`.
OWNER_COMMANDS = {"createcachetable", "dbshell", "flush", "loaddata", "migrate"}
_command = sys.argv[1] if len(sys.argv) > 1 else ""
_owner_url = env.str("DATABASE_OWNER_URL", "").strip()
AS_OWNER = bool(_owner_url) and (_command in OWNER_COMMANDS or env.bool("DATABASE_AS_OWNER", False))

_replica_urls = [url for url in env.str("DATABASE_REPLICA_URLS", "").strip().split(",") if url][:REPLICAS]
# How many replicas the site reads.
REPLICAS_READ = len(_replica_urls)
if AS_OWNER:
    _replica_urls = []
    DATABASES = owner_databases(_owner_url, SECRETS_DIR, _command)
else:
    DATABASES = databases(
        env.str("DATABASE_URL"),
        _replica_urls,
        SECRETS_DIR,
        connection_settings(
            POOL_MODE,
            CONNECTION_STRATEGY,
            WEB_WORKER,
            threads=number("WEB_THREADS", 4),
            prepared_statements=env.bool("PREPARED_STATEMENTS", False),
        ),
    )
DATABASE_ROUTERS = ["dbrouting.routers.ReadWriteRouter"]
DBROUTING = {
    # Aliases that reads may go to; none without replicas, when `replica` is the primary itself.
    "REPLICAS": [alias for alias in DATABASES if alias.startswith("replica")] if _replica_urls else [],
}
# Read from replicas too; what is missing there is looked up on the primary before anybody is logged out.
SESSION_ENGINE = "dbrouting.sessions"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Cache ----------------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/topics/cache/

CACHES = {
    "default": cache(env.str("CACHE_BACKEND", "memory"), env.str("CACHE_URL", ""), password=secret("CACHE_PASSWORD"))
}
# A cache that does not answer is only slow, so the log has to say it.
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True

# Apps and pages -------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/ref/applications/
# https://docs.djangoproject.com/en/stable/topics/http/middleware/

INSTALLED_APPS = [
    "dbrouting",
    "articles",  # remove-example
    "users",
    "ops",
    *(["django_tasks_db"] if django.VERSION >= (6, 0) else []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    # Outermost: it must know of every write that the others make, the session's among them.
    "dbrouting.middleware.ConsistencyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    # Django 5.2 has none.
    *(["django.middleware.csp.ContentSecurityPolicyMiddleware"] if django.VERSION >= (6, 0) else []),
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context.site",
                *(["django.template.context_processors.csp"] if django.VERSION >= (6, 0) else []),
            ]
        },
    }
]

# The SQL, templates and times of each page, beside it. https://django-debug-toolbar.readthedocs.io/
# It comes with the packages for development, so DEBUG in the image has none.
DEBUG_TOOLBAR = DEBUG and find_spec("debug_toolbar") is not None
if DEBUG_TOOLBAR:
    INSTALLED_APPS.append("debug_toolbar")
    # Inside ConsistencyMiddleware, outside of all others.
    MIDDLEWARE.insert(1, "debug_toolbar.middleware.DebugToolbarMiddleware")
    # In a container each visitor has the address of its gateway, which INTERNAL_IPS would have to name.
    DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": lambda request: True}

# Users ----------------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/topics/auth/

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = ["users.backends.EmailOrUsername"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Language and time ----------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/topics/i18n/

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

# Files ----------------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/howto/static-files/
# https://docs.djangoproject.com/en/stable/topics/files/

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env.str("STATIC_ROOT", str(BASE_DIR / "staticfiles"))
# What visitors and editors upload: a directory, in the container a volume, which the site serves itself
# (config/media.py), or a bucket.
MEDIA_URL = "media/"
MEDIA_ROOT = env.str("MEDIA_ROOT", str(BASE_DIR / "media"))
S3_BUCKET = env.str("S3_BUCKET", "")
S3_ENDPOINT = env.str("S3_ENDPOINT", "")
STORAGES = {
    "default": media_storage(
        S3_BUCKET,
        endpoint=S3_ENDPOINT,
        region=env.str("S3_REGION", ""),
        access_key=env.str("S3_ACCESS_KEY", ""),
        secret_key=secret("S3_SECRET_KEY"),
    ),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# Mail -----------------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/topics/email/

_mailer = mailer(env.str("EMAIL_URL", "consolemail://"), secret("EMAIL_PASSWORD"))
if django.VERSION >= (6, 1):
    MAILERS = {"default": _mailer}
else:
    globals().update(email_settings(_mailer))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("EMAIL_FROM", "noreply@localhost")
# Errors are mailed to them.
_admins = [address.strip() for address in env.str("ADMINS", "").split(",") if address.strip()]
ADMINS = _admins if django.VERSION >= (6, 0) else [("", address) for address in _admins]

# Background tasks -----------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/topics/tasks/

# Without a worker a task runs at once, in the request that enqueues it. Django 5.2 has none.
TASK_WORKERS = number("TASK_WORKERS", 0)
TASKS = {
    "default": {
        "BACKEND": "django_tasks_db.DatabaseBackend"
        if TASK_WORKERS
        else "django.tasks.backends.immediate.ImmediateBackend"
    }
}

# Security -------------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/topics/security/
# https://docs.djangoproject.com/en/stable/howto/deployment/checklist/

# Browsers load and run nothing else. A page that needs more: @csp_override of django.views.decorators.csp.
# CSP.NONCE, which Django 5.2 does not have: what stands in a template needs `csp_nonce`.
_nonce = "<CSP_NONCE_SENTINEL>"
SECURE_CSP = {
    "default-src": ["'self'"],
    "script-src": ["'self'", _nonce],
    "style-src": ["'self'", _nonce],
    "img-src": ["'self'", "data:", *media_source(S3_BUCKET, S3_ENDPOINT)],
    "media-src": ["'self'", *media_source(S3_BUCKET, S3_ENDPOINT)],
    "object-src": ["'none'"],
    "base-uri": ["'self'"],
}

# They are believed who visits (REMOTE_ADDR, config/wsgi.py) and whether by HTTPS (config/gunicorn.conf.py;
# SECURE_PROXY_SSL_HEADER would believe everybody). Each must overwrite the X-Forwarded-Proto that a client sends.
TRUSTED_PROXIES = trusted_proxies(env.str("TRUSTED_PROXIES", ""))
if SITE_URL.startswith("https:"):
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$"]
    SECURE_HSTS_SECONDS = number("HSTS_SECONDS", 3600)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

# Logging --------------------------------------------------------------------------------------------------------------
# https://docs.djangoproject.com/en/stable/topics/logging/

LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_config(env.str("LOG_FORMAT", "plain"), env.str("LOG_LEVEL", "INFO").upper(), mails=bool(ADMINS))

# Errors, to Sentry or what takes its protocol. https://docs.sentry.io/platforms/python/integrations/django/
if _dsn := env.str("SENTRY_DSN", ""):
    # Not above: it takes each worker some megabytes.
    import sentry_sdk
    from sentry_sdk.integrations.logging import ignore_logger

    # Scanners cause these.
    ignore_logger("django.security.*")
    sentry_sdk.init(_dsn)
