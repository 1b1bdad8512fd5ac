"""Settings. Solo mode (SQLite, one process) is the default; addresses in the environment make a team."""

from datetime import datetime
from pathlib import Path
from typing import Any

import django_stubs_ext

from copilot_site import __version__
from copilot_site import env as environment
from copilot_site.env import env, positive, secret, url
from copilot_site.logging import configure_logging

# `ModelForm[Member]` and its like are generic for the type checker only; this makes them run.
django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = environment.data_dir()

VERSION = __version__
# Read before Django sets the process's zone to TIME_ZONE: terminal lines tell the operator's time.
LOCAL_ZONE = datetime.now().astimezone().tzinfo
DEMO = env.bool("GATEWAY_DEMO", default=False)
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = secret("SECRET_KEY", DATA_DIR / "secret_key")
# Newest first; older keys stay readable until `manage.py rotate-keys` has rewritten every row.
ENCRYPTION_KEYS = secret("ENCRYPTION_KEYS", DATA_DIR / "encryption_keys").split(",")

DATABASE_URL = env.str("DATABASE_URL", default="")
REDIS_URL = env.str("REDIS_URL", default="")
TEAM_MODE = bool(REDIS_URL)

# Who may call. Loopback names are always served; a team adds its public host.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.list("ALLOWED_HOSTS", default=[])]
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Set by `start`: an address other than loopback always requires keys.
REQUIRE_KEYS = env.bool("GATEWAY_REQUIRE_KEYS", default=True)
KEYS_DEMANDED = env.bool("GATEWAY_REQUIRE_KEYS", default=False)

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "channels",
    "django_htmx",
    "ninja",
    "accounts",
    "usage",
    "proxy",
    "copilot_site",
]
MIDDLEWARE = [
    "copilot_site.middleware.SecurityHeaders",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "copilot_site.urls"
GATEWAY_URLCONF = "proxy.urls"
ASGI_APPLICATION = "copilot_site.asgi.application"
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
                "copilot_site.context.shell",
            ]
        },
    }
]

DATABASES: dict[str, Any]
if DATABASE_URL:
    DATABASES = {"default": env.db_url("DATABASE_URL")}
    DATABASES["default"].update({"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True})
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "gateway.sqlite3",
            "OPTIONS": {
                # Writers queue instead of failing; WAL lets the pages read meanwhile.
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if TEAM_MODE:
    CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    }
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL]},
        }
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

CELERY_BROKER_URL = REDIS_URL or "memory://"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_REDIRECT_STDOUTS = False

AUTH_USER_MODEL = "accounts.Member"
LOGIN_URL = "/dashboard/sign-in/"
LOGIN_REDIRECT_URL = "/dashboard/"
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
# The team's public address ends TLS at nginx; on a laptop the pages are plain http on loopback.
HTTPS = env.bool("GATEWAY_HTTPS", default=False)
SESSION_COOKIE_NAME = "gateway_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = "gateway_csrf"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31536000

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文"), ("ar", "العربية")]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"},
}

# Where GitHub is. A test, a GHE host or the simulator names others; COPILOT_API_URL unset means the
# host that the account's own documents name.
GITHUB_URL = url("GITHUB_URL", "https://github.com")
GITHUB_API_URL = url("GITHUB_API_URL", "https://api.github.com")
COPILOT_API_URL = url("COPILOT_API_URL", "")
# Hosts that an account document may send a credential to, beside those of the three addresses.
COPILOT_HOST_SUFFIXES = (".githubcopilot.com", ".ghe.com", "githubcopilot.com")
PROXY_ENV = env.bool("GATEWAY_PROXY_ENV", default=False)

# Limits, in seconds and bytes. Reasons: docs/operations.md#limits.
GATEWAY_CONNECT_TIMEOUT_S = positive("GATEWAY_CONNECT_TIMEOUT_S", 10)
GATEWAY_FIRST_BYTE_TIMEOUT_S = positive("GATEWAY_FIRST_BYTE_TIMEOUT_S", 300)
GATEWAY_IDLE_TIMEOUT_S = positive("GATEWAY_IDLE_TIMEOUT_S", 120)
GATEWAY_HEARTBEAT_S = positive("GATEWAY_HEARTBEAT_S", 10)
GATEWAY_DRAIN_S = positive("GATEWAY_DRAIN_S", 60)
GATEWAY_MAX_BODY_BYTES = int(positive("GATEWAY_MAX_BODY_BYTES", 32 * 1024 * 1024))
GATEWAY_MAX_IN_FLIGHT = int(positive("GATEWAY_MAX_IN_FLIGHT", 1000))
# The seed's limits: seconds between requests (0: none), wait instead of refuse, ask a person.
GATEWAY_RATE_LIMIT_S = env.float("GATEWAY_RATE_LIMIT_S", default=0.0)
GATEWAY_RATE_LIMIT_WAIT = env.bool("GATEWAY_RATE_LIMIT_WAIT", default=False)
GATEWAY_MANUAL = env.bool("GATEWAY_MANUAL", default=False)
GATEWAY_APPROVAL_TIMEOUT_S = positive("GATEWAY_APPROVAL_TIMEOUT_S", 120)
GATEWAY_QUEUE_LIMIT = int(positive("GATEWAY_QUEUE_LIMIT", 100))
GATEWAY_QUEUE_TIMEOUT_S = positive("GATEWAY_QUEUE_TIMEOUT_S", 60)
GATEWAY_VERBOSE = env.bool("GATEWAY_VERBOSE", default=False)
GATEWAY_SHOW_TOKEN = env.bool("GATEWAY_SHOW_TOKEN", default=False)
GATEWAY_GITHUB_TIMEOUT_S = positive("GATEWAY_GITHUB_TIMEOUT_S", 10)
# Added to every device-flow wait: skewed clocks otherwise hear `slow_down` for ever.
GATEWAY_DEVICE_FLOW_MARGIN_S = env.float("GATEWAY_DEVICE_FLOW_MARGIN_S", default=1.0)
# Refuse requests that the journal cannot hold, instead of serving them unrecorded.
GATEWAY_JOURNAL_STRICT = env.bool("GATEWAY_JOURNAL_STRICT", default=False)
USAGE_RETENTION_DAYS = int(positive("USAGE_RETENTION_DAYS", 400))
# `GET /token` is off unless asked for; administrators only, and every reading is audited.
GATEWAY_TOKEN_ENDPOINT = env.bool("GATEWAY_TOKEN_ENDPOINT", default=False)
# Web search for Claude clients: of the solo person without a key (keys say it themselves), and the
# model on /responses that searches; empty: the cheapest of OpenAI's in the account's catalog.
GATEWAY_WEB_SEARCH = env.bool("GATEWAY_WEB_SEARCH", default=False)
GATEWAY_WEB_SEARCH_MODEL = env.str("GATEWAY_WEB_SEARCH_MODEL", default="")
JOURNAL_DIR = DATA_DIR / "journal"
TOKENIZER_FILE = BASE_DIR / "proxy" / "data" / "o200k_base.tiktoken"

# Request and session bodies of pages; API bodies are limited by the gateway's own handler.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

LOGGING_CONFIG = None
configure_logging(verbose=GATEWAY_VERBOSE)
NINJA_PAGINATION_MAX_LIMIT = 1000
SILENCED_SYSTEM_CHECKS: list[str] = []
