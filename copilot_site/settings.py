"""Settings. Solo mode (SQLite, one process) is the default; addresses in the environment make a team."""

from datetime import datetime
from pathlib import Path
from typing import Any

import django_stubs_ext
from django.templatetags.static import static

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
# Made here and kept in files of this machine: another host of a team would have others.
SECRETS_IN_FILES = [n for n in ("SECRET_KEY", "ENCRYPTION_KEYS") if not env.str(n, default="")]

DATABASE_URL = env.str("DATABASE_URL", default="")
REDIS_URL = env.str("REDIS_URL", default="")
TEAM_MODE = bool(REDIS_URL)

# Who may call. Loopback names are always served; a team adds its public host.
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", *env.list("ALLOWED_HOSTS", default=[])]
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Pages of other origins that may use the API, with a key of their own; none unless asked for.
GATEWAY_CORS_ORIGINS: list[str] = env.list("GATEWAY_CORS_ORIGINS", default=[])
# Networks of the proxies whose X-Forwarded-* headers count, with GATEWAY_HTTPS.
GATEWAY_PROXIES = env.list("GATEWAY_PROXIES", default=environment.INSIDE)
# Gemini's own clients put their key into the query; without them nobody's needs to stand there.
GATEWAY_KEYS_IN_QUERY = env.bool("GATEWAY_KEYS_IN_QUERY", default=True)
# Set by `start`: an address other than loopback always requires keys.
REQUIRE_KEYS = env.bool("GATEWAY_REQUIRE_KEYS", default=True)
KEYS_DEMANDED = env.bool("GATEWAY_REQUIRE_KEYS", default=False)

INSTALLED_APPS = [
    "unfold",
    # Found when the first page is asked for, see `copilot_site.urls`: a gateway may never serve one.
    "django.contrib.admin.apps.SimpleAdminConfig",
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
    "allauth",
    "allauth.account",
    "allauth.socialaccount",
    "allauth.mfa",
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
    "accounts.session_ages.SessionAges",
    "copilot_site.middleware.MemberLanguage",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.second_factor.SecondFactorRequired",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "copilot_site.urls"
GATEWAY_URLCONF = "proxy.urls"
# What the Health page shows as text; by its name, so that commands need not load that page.
HEALTH_REPORT = "copilot_site.diagnosis.report"
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
    # A host that is gone is given up within seconds, not after the quarter of an hour that TCP takes.
    if DATABASES["default"]["ENGINE"].endswith("postgresql"):
        DATABASES["default"].setdefault("OPTIONS", {}).update(
            environment.PATIENCE | DATABASES["default"].get("OPTIONS", {})
        )
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "gateway.sqlite3",
            "OPTIONS": {
                # Writers queue instead of failing; WAL lets the pages read meanwhile.
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                # Half a MiB for each thread's connection, not two: the system keeps the file's pages.
                " PRAGMA cache_size=-512;",
            },
        }
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if TEAM_MODE:
    CACHES = {
        "default": {
            "BACKEND": "copilot_site.shared_cache.SharedCache",
            "LOCATION": REDIS_URL,
        },
        # What is kept while Redis is away.
        "process": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL]},
        }
    }
else:
    CACHES = {
        name: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": name}
        for name in ("default", "process")
    }
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

CELERY_BROKER_URL = REDIS_URL or "memory://"
if TEAM_MODE:
    # Who sends a task from a page waits for a Redis that hangs no longer than that.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2}
    CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.2}
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
AUTH_PASSWORD_VALIDATORS += [
    {"NAME": f"accounts.passwords.{name}"} for name in ("NotOurOwnWords", "NotBreached")
]
# A list of breached passwords on this machine, beside Django's own 20 000: nothing is asked outside.
GATEWAY_BREACHED_PASSWORDS = env.str("GATEWAY_BREACHED_PASSWORDS", default="")
# Sign-in at an OIDC provider or GitHub, and second factors. Set-up: docs/team.md.
GATEWAY_OIDC_ISSUER = url("GATEWAY_OIDC_ISSUER", "")
GATEWAY_OIDC_GROUPS_CLAIM = env.str("GATEWAY_OIDC_GROUPS_CLAIM", default="groups")
# Strengths of a sign-in (`acr`) that the provider is asked for, and of which it must name one.
GATEWAY_OIDC_ACR: list[str] = env.list("GATEWAY_OIDC_ACR", default=[])
GATEWAY_GITHUB_ORG = env.str("GATEWAY_GITHUB_ORG", default="")
# Domains of e-mail addresses whose owners may join without an invite, if the provider verified them.
GATEWAY_SSO_DOMAINS = env.list("GATEWAY_SSO_DOMAINS", default=[])
# How long a session of somebody the provider vouches for lasts before the provider is asked again.
GATEWAY_SSO_SESSION_H = positive("GATEWAY_SSO_SESSION_H", 12)
GATEWAY_REQUIRE_MFA = env.bool("GATEWAY_REQUIRE_MFA", default=False)
GATEWAY_REQUIRE_MFA_OF_ALL = env.bool("GATEWAY_REQUIRE_MFA_OF_ALL", default=False)
SOCIALACCOUNT_PROVIDERS = environment.sign_in_providers()
# Only those that are used: each loads `requests`, 5 MiB.
INSTALLED_APPS += [f"allauth.socialaccount.providers.{name}" for name in SOCIALACCOUNT_PROVIDERS]
SOCIALACCOUNT_ADAPTER = "accounts.sso.Providers"
SOCIALACCOUNT_OPENID_CONNECT_URL_PREFIX = ""
# A form's policy `form-action 'self'` would stop the way to the provider; `state` guards the way back.
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SOCIALACCOUNT_STORE_TOKENS = False
ACCOUNT_ADAPTER = "accounts.sso.People"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_EMAIL_NOTIFICATIONS = False
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL
MFA_ADAPTER = "accounts.second_factor.Factors"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_ALLOW_UNVERIFIED_EMAIL = True
# How many codes before and after the present one are taken, of 30 seconds each.
MFA_TOTP_TOLERANCE = env.int("GATEWAY_TOTP_TOLERANCE", default=0)
# The team's public address ends TLS at nginx; on a laptop the pages are plain http on loopback.
HTTPS = env.bool("GATEWAY_HTTPS", default=False)
# `__Host-` binds a cookie to this very host: no neighbour in the domain can set it.
COOKIE_PREFIX = "__Host-" if HTTPS else ""
SESSION_ENGINE = "accounts.session_store"
SESSION_COOKIE_NAME = COOKIE_PREFIX + "gateway_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_NAME = COOKIE_PREFIX + "gateway_csrf"
# A session ends so many hours after its last page, and so many after its sign-in.
GATEWAY_SESSION_IDLE_H = positive("GATEWAY_SESSION_IDLE_H", 72)
GATEWAY_SESSION_MAX_H = positive("GATEWAY_SESSION_MAX_H", 336)
SESSION_COOKIE_AGE = int(GATEWAY_SESSION_MAX_H * 3600)
# Browsers offer passkeys to https pages, and to localhost.
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31536000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_SSL_REDIRECT = True

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

# Mail: `smtp+tls://name:password@mail.example.org:587`. Unset, mail channels say that none is set up.
EMAIL_IS_SET_UP = bool(env.str("EMAIL_URL", default=""))
if EMAIL_IS_SET_UP:
    vars().update(env.email_url("EMAIL_URL"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.str("GATEWAY_MAIL_FROM", default="gateway@localhost")
# Where people open the pages; links in mails and messages begin with it. Unset: no links.
GATEWAY_PUBLIC_URL = url("GATEWAY_PUBLIC_URL", "")
# Hosts that webhooks may reach though they are inside or plain http: `chat.corp.example`, `*.corp…`.
GATEWAY_WEBHOOK_HOSTS = env.list("GATEWAY_WEBHOOK_HOSTS", default=[])

# Where GitHub is. A test, a GHE host or the simulator names others; COPILOT_API_URL unset means the
# host that the account's own documents name.
GITHUB_URL = url("GITHUB_URL", "https://github.com")
GITHUB_API_URL = url("GITHUB_API_URL", "https://api.github.com")
COPILOT_API_URL = url("COPILOT_API_URL", "")
# Tenants of ghe.com that another address plays: `acme.ghe.com=http://127.0.0.2:8787`, by commas.
GITHUB_STAND_INS = {
    host.strip().lower(): address.strip().rstrip("/")
    for host, _, address in (
        pair.partition("=") for pair in env.list("GITHUB_STAND_INS", default=[])
    )
}
# Hosts that an account document may send a credential to, beside those of the three addresses.
COPILOT_HOST_SUFFIXES = (".githubcopilot.com", ".ghe.com", "githubcopilot.com")
PROXY_ENV = env.bool("GATEWAY_PROXY_ENV", default=False)

# Limits, in seconds and bytes. Reasons: docs/operations.md#limits.
GATEWAY_CONNECT_TIMEOUT_S = positive("GATEWAY_CONNECT_TIMEOUT_S", 10)
GATEWAY_FIRST_BYTE_TIMEOUT_S = positive("GATEWAY_FIRST_BYTE_TIMEOUT_S", 300)
GATEWAY_IDLE_TIMEOUT_S = positive("GATEWAY_IDLE_TIMEOUT_S", 120)
GATEWAY_HEARTBEAT_S = positive("GATEWAY_HEARTBEAT_S", 10)
GATEWAY_DRAIN_S = positive("GATEWAY_DRAIN_S", 60)
# A head, or the next part of a body, that does not come; a client that does not read its answer.
GATEWAY_UPLOAD_TIMEOUT_S = positive("GATEWAY_UPLOAD_TIMEOUT_S", 60)
GATEWAY_CLIENT_STALL_S = positive("GATEWAY_CLIENT_STALL_S", 300)
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
# Bodies, of keys that ask for it, stay so many days.
GATEWAY_BODY_RETENTION_DAYS = int(positive("GATEWAY_BODY_RETENTION_DAYS", 7))
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

# The look of /admin/.
UNFOLD = {
    "SITE_TITLE": "Copilot Gateway",
    "SITE_HEADER": "Copilot Gateway",
    "SITE_URL": "/dashboard/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("favicon.svg")}
    ],
}

LOGGING_CONFIG = None
configure_logging(verbose=GATEWAY_VERBOSE)
NINJA_PAGINATION_MAX_LIMIT = 1000
# W021 asks to have the domain built into browsers for ever: the operator's decision, not ours.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
