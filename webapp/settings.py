"""All settings of the web side, typed, each from the environment with a default for one machine.

A secret may come as NAME or as NAME_FILE (the path of a file that holds it). Everything local lies under
IMPRIMATUR_HOME. Nothing below the Celery task reads this file: jobs carry a JobSpec.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from watermark.jurisdictions import RULES, WORDS

BASE_DIR = Path(__file__).resolve().parent.parent


def env(name: str, default: str = "") -> str:
    """The variable `name`, or the content of the file named by `name`_FILE, or the default."""
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return os.environ.get(name, default)


def env_bool(name: str, default: bool) -> bool:
    """True for 1, true, yes, on; False for 0, false, no, off; anything else is an error at start-up."""
    value = env(name).strip().lower()
    if not value:
        return default
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be a yes or a no, not {value!r}.")


def env_int(name: str, default: int) -> int:
    """A whole number, else an error at start-up."""
    value = env(name).strip()
    try:
        return int(value) if value else default
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None


def env_list(name: str, default: list[str]) -> list[str]:
    """Comma-separated words."""
    value = env(name)
    return [word.strip() for word in value.split(",") if word.strip()] if value else default


def home_secret(path: Path, size: int = 32) -> str:
    """A random secret kept in a 0600 file, made at the first start, so that one machine needs no set-up."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(size))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8").strip()


def database(url: str) -> dict[str, Any]:
    """Django's settings for `sqlite:///PATH` or `postgresql://user:password@host:port/name`."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": parts.path[1:] if parts.path.startswith("//") else parts.path.lstrip("/") or ":memory:",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA foreign_keys=ON;"
                # What is deleted or replaced is overwritten in the file: erased must mean gone from a raw copy, too.
                "PRAGMA secure_delete=ON;",
            },
            "TEST": {"NAME": None},
        }
    if parts.scheme in {"postgres", "postgresql"}:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
        }
    raise ImproperlyConfigured(f"DATABASE_URL must start with sqlite:/// or postgresql://, not {parts.scheme!r}.")


# --- the house ------------------------------------------------------------------------------------------------------
HOME = Path(env("IMPRIMATUR_HOME") or BASE_DIR / "var").resolve()
# Where this process's engine is at home: a worker that has a device of its own has an engine of its own.
ENGINE_HOME = HOME / "devices" / env("IMPRIMATUR_DEVICE") if env("IMPRIMATUR_DEVICE") else HOME
MODELS_DIR = Path(env("IMPRIMATUR_MODELS") or HOME / "models")
# The models that an operator installed, and jobs may then choose; the engine reads the same variable.
OPERATOR_MODELS_DIR = Path(env("IMPRIMATUR_OPERATOR_MODELS") or HOME / "operator-models")
GATE_PACKS_DIR = Path(env("IMPRIMATUR_GATE_PACKS") or HOME / "gate-packs")  # detector packs; see `manage.py gate`
# Services that judge uploads, by provider; none is asked before `manage.py gate packs accept`. Keys are secrets.
GATE_SERVICES = {
    name: {"url": env(f"{name.upper()}_URL"), "key": env(f"{name.upper()}_API_KEY")}
    for name in ("reality_defender", "hive", "sensity")
}
GATE_SERVICE_SECONDS = env_int("GATE_SERVICE_SECONDS", 300)
MODEL_MIRROR = env("IMPRIMATUR_MODEL_MIRROR")  # a URL under which the published model files lie by their names
PRECISION_FILE = env("IMPRIMATUR_PRECISION")  # stands over worker/inference/precision.toml
KEYS_DIR = HOME / "keys"
SIGNER_DIR = HOME / "signer"
WORK_DIR = HOME / "scratch"
SPOOL_DIR = HOME / "spool"
MAIL_DIR = HOME / "mail"

# DESIGN.md decision 14: no default in images; `make demo` and `make serve` set `evaluation` themselves.
PROFILES = ("evaluation", "standard", "strict")
PROFILE = env("IMPRIMATUR_PROFILE")
if PROFILE and PROFILE not in PROFILES:
    raise ImproperlyConfigured(f"IMPRIMATUR_PROFILE must be one of {', '.join(PROFILES)}, not {PROFILE!r}.")
PUBLIC_URL = env("PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
DEBUG = env_bool("DEBUG", False)
if urlsplit(PUBLIC_URL).hostname not in {"localhost", "127.0.0.1", "::1"}:
    if PROFILE not in {"standard", "strict"}:
        raise ImproperlyConfigured(
            "The profile `evaluation` lets unscreened inputs proceed, so it runs on a local PUBLIC_URL only. "
            "Set IMPRIMATUR_PROFILE to standard or strict."
        )
    if DEBUG:
        raise ImproperlyConfigured("DEBUG shows the inside of the service to everybody; unset it or use a local URL.")
DEPLOYMENT = env("IMPRIMATUR_DEPLOYMENT", "local")
# Mark keys are derived from the deployment's name: after a change of name the old one belongs here.
PREVIOUS_DEPLOYMENTS = env_list("IMPRIMATUR_PREVIOUS_DEPLOYMENTS", [])
STORAGE_URL = env("STORAGE_URL", f"file://{HOME / 'objects'}")

SECRET_KEY = env("SECRET_KEY") or home_secret(KEYS_DIR / "django.secret")
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]", urlsplit(PUBLIC_URL).hostname or ""])
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", [PUBLIC_URL])
SECURE_COOKIES = PUBLIC_URL.startswith("https://")

# --- what may be uploaded (product.md section 5) --------------------------------------------------------------------
MAX_PHOTO_BYTES = env_int("MAX_PHOTO_BYTES", 40 << 20)
MAX_VIDEO_BYTES = env_int("MAX_VIDEO_BYTES", 1 << 30)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 << 20
FILE_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
FILE_UPLOAD_TEMP_DIR = str(WORK_DIR / "uploads")
Path(FILE_UPLOAD_TEMP_DIR).mkdir(parents=True, exist_ok=True, mode=0o700)  # Django insists that it is there
FILE_UPLOAD_PERMISSIONS = 0o600
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

# --- reviews: hours until a person should have decided; the second for appeals and where a detector is sure ----------
REVIEW_HOURS = env_int("REVIEW_HOURS", 24)
REVIEW_HOURS_PRIORITY = env_int("REVIEW_HOURS_PRIORITY", 4)
if not 1 <= REVIEW_HOURS_PRIORITY <= REVIEW_HOURS:
    raise ImproperlyConfigured("REVIEW_HOURS_PRIORITY must be at least 1 and not more than REVIEW_HOURS.")

# --- verification ---------------------------------------------------------------------------------------------------
TRUST_LIST_FILE = env("TRUST_LIST_FILE")  # PEM: roots of issuers that the operator trusts besides this house
WEBHOOK_PORTS = [int(port) for port in env_list("WEBHOOK_PORTS", ["443"])]
FETCH_PORTS = [int(port) for port in env_list("FETCH_PORTS", ["443"])]

# --- Django ---------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "webapp.accounts",
    "webapp.outbox",
    "consent",
    "webapp.jobs",
    "webapp.screening",
    "webapp.webhooks",
    "webapp.api",
    "webapp.pages",
    "webapp.verify",
    "webapp.console",
    "webapp.commands",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "webapp.headers.permissions_policy",
    "webapp.unfinished_uploads.close_unfinished_uploads",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "webapp.urls"
ASGI_APPLICATION = "webapp.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "webapp" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
                "webapp.pages.context.house",
            ]
        },
    }
]
DATABASES = {
    "default": database(env("DATABASE_URL", f"sqlite:///{HOME / 'imprimatur.sqlite3'}")),
    # Wrapped data keys have a store of their own, so that erasing one is not undone by a restored backup.
    "keys": database(env("KEYS_URL", f"sqlite:///{HOME / 'keys' / 'keys.sqlite3'}")),
}
DATABASE_ROUTERS = ["consent.keys.KeyStoreRouter"]
# The master key: file:PATH, env:NAME, aws-kms:KEY or vault:MOUNT/KEY; empty: IMPRIMATUR_MASTER_KEY, else a file here.
MASTER_KEY_URI = env("MASTER_KEY_URI")
MASTER_KEY_PREVIOUS = env_list("MASTER_KEY_PREVIOUS", [])  # places of earlier ones, readable during a change
MASTER_KEY_ENDPOINT = env("MASTER_KEY_ENDPOINT")  # a private address of AWS KMS
VAULT_ADDR = env("VAULT_ADDR")
VAULT_TOKEN = env("VAULT_TOKEN")
VAULT_ROLE_ID = env("VAULT_ROLE_ID")
VAULT_SECRET_ID = env("VAULT_SECRET_ID")
VAULT_NAMESPACE = env("VAULT_NAMESPACE")
VAULT_CACERT = env("VAULT_CACERT")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "/login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "webapp" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = HOME / "static"
VENDOR_DIR = Path(env("IMPRIMATUR_VENDOR") or HOME / "vendor")  # what `manage.py prepare` fetches for browsers
VENDOR_DIR.mkdir(parents=True, exist_ok=True)  # Django insists that it is there
STATICFILES_DIRS = [BASE_DIR / "webapp" / "static", ("vendor", VENDOR_DIR)]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(WORK_DIR)}},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_IMMUTABLE_FILE_TEST = r"^/static/vendor/[a-z0-9-]+-\d+\.\d+\.\d+/"  # a folder per version
# Without a mail server the letters with consent links are files under MAIL_DIR, for whoever runs this machine.
EMAIL_HOST = env("EMAIL_HOST")
EMAIL_PORT = env_int("EMAIL_PORT", 587)
EMAIL_HOST_USER = env("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS", True)
EMAIL_TIMEOUT = 20
_MAILER = "smtp" if EMAIL_HOST else "filebased"
EMAIL_BACKEND = env("EMAIL_BACKEND", f"django.core.mail.backends.{_MAILER}.EmailBackend")
EMAIL_FILE_PATH = str(MAIL_DIR)
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", "Imprimatur <noreply@localhost>")

# --- browser security -----------------------------------------------------------------------------------------------
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
BEHIND_PROXY = env_bool("BEHIND_PROXY", False)  # exactly one proxy, which sets X-Forwarded-Proto and -For
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
SECURE_HSTS_SECONDS = 31536000 if SECURE_COOKIES else 0
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "blob:", "data:"],
        "media-src": [SELF, "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
    }
}

# --- REST -----------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["webapp.accounts.auth.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "rest_framework.parsers.JSONParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "webapp.api.errors.problem_response",
    "UNAUTHENTICATED_USER": None,
    "NUM_PROXIES": 1 if BEHIND_PROXY else 0,  # else a client could name any address as its own
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Imprimatur",
    "DESCRIPTION": "Consented face replacement: assets, consent requests, jobs, outputs, verifications.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
}

# --- Celery (see webapp/celery.py) ----------------------------------------------------------------------------------
REDIS_URL = env("REDIS_URL")
REDIS_KEY_PREFIX = env("REDIS_KEY_PREFIX")  # lets several installations share one Redis
LEASE_SECONDS = env_int("LEASE_SECONDS", 15)
MAX_STARTS_WITHOUT_PROGRESS = 5

# --- who signs (paths; all empty: this machine's untrusted development certificates, profile evaluation only) --------
SIGNER_CHAIN_FILE = env("SIGNER_CHAIN_FILE")
SIGNER_KEY_FILE = env("SIGNER_KEY_FILE")
# Instead of a file, a key that never leaves its place: aws-kms:…, gcp-kms:…, pkcs11:… (watermark.key_services).
SIGNER_KEY_URI = env("SIGNER_KEY_URI")
SIGNER_PIN = env("SIGNER_PIN")  # of a PKCS#11 token
SIGNER_ENDPOINT = env("SIGNER_ENDPOINT")  # a private address of the key service
SIGNER_ANCHORS_FILE = env("SIGNER_ANCHORS_FILE")
TSA_URL = env("TSA_URL")  # RFC 3161; without time stamps a manifest is not valid past its certificate's life
TSA_ANCHORS_FILE = env("TSA_ANCHORS_FILE")  # the roots of that service; without them its time is only a claim
TSA_WHEN_DOWN = env("TSA_WHEN_DOWN", "wait")
if TSA_WHEN_DOWN not in {"wait", "publish"}:
    raise ImproperlyConfigured(f"TSA_WHEN_DOWN must be wait or publish, not {TSA_WHEN_DOWN!r}.")

# --- the visible label and China's metadata label (watermark.jurisdictions) ------------------------------------------
JURISDICTIONS = tuple(env_list("JURISDICTIONS", ["default"]))
if unknown := sorted(set(JURISDICTIONS) - set(RULES)):
    raise ImproperlyConfigured(f"JURISDICTIONS may hold {', '.join(RULES)}, not {unknown[0]!r}.")
LABEL_LANGUAGE = env("LABEL_LANGUAGE", "en")
if LABEL_LANGUAGE not in WORDS:
    raise ImproperlyConfigured(f"LABEL_LANGUAGE must be one of {', '.join(WORDS)}, not {LABEL_LANGUAGE!r}.")
AIGC_PRODUCER = env("AIGC_PRODUCER")  # name or code under which you are registered in China

# --- video devices (NVDEC, NVENC): a media child gets the driver's files only where this is "auto" --------------------
VIDEO_DEVICE = env("VIDEO_DEVICE", "off")
if VIDEO_DEVICE not in {"off", "auto"}:
    raise ImproperlyConfigured(f"VIDEO_DEVICE must be off or auto, not {VIDEO_DEVICE!r}.")

LOG_LEVEL = env("LOG_LEVEL", "INFO").upper()

# --- privacy --------------------------------------------------------------------------------------------------------
INPUT_RETENTION_HOURS = env_int("INPUT_RETENTION_HOURS", 24)
OUTPUT_RETENTION_DAYS = env_int("OUTPUT_RETENTION_DAYS", 7)
# Outputs whose permission ended are hidden at once; their bytes and key go this much later. People are promised 24
# hours, and the sweeper needs its time, so more than 20 is an error.
WITHDRAWN_GRACE_HOURS = env_int("WITHDRAWN_GRACE_HOURS", 0)
if not 0 <= WITHDRAWN_GRACE_HOURS <= 20:
    raise ImproperlyConfigured("WITHDRAWN_GRACE_HOURS must be 0 to 20: people are promised deletion within 24 hours.")
CONSENT_LINK_DAYS = 7
VERIFICATION_RETENTION_DAYS = env_int("VERIFICATION_RETENTION_DAYS", 30)  # of answers; files are never kept
# The rest of the schedule (webapp.retention), each with its reason there.
CHALLENGE_RETENTION_DAYS = env_int("CHALLENGE_RETENTION_DAYS", 30)  # a copy for disputes (product.md 1.8: at most 30)
if not 0 <= CHALLENGE_RETENTION_DAYS <= 30:
    raise ImproperlyConfigured(f"CHALLENGE_RETENTION_DAYS must be 0 to 30, not {CHALLENGE_RETENTION_DAYS}.")
CONSENT_RETENTION_YEARS = env_int("CONSENT_RETENTION_YEARS", 3)
UNANSWERED_RETENTION_DAYS = env_int("UNANSWERED_RETENTION_DAYS", 90)
EVIDENCE_RETENTION_DAYS = env_int("EVIDENCE_RETENTION_DAYS", 400)  # 180 at least where China's rules hold
MARK_RETENTION_YEARS = env_int("MARK_RETENTION_YEARS", 10)
LOG_RETENTION_DAYS = env_int("LOG_RETENTION_DAYS", 180)  # what your log system is set to; only told, not done here
KEY_BACKUP_DAYS = env_int("KEY_BACKUP_DAYS", 7)  # the same, of the backups of KEYS_URL
# Who answers for the data (GDPR 13, 30); named in the record of processing and on the pages about it.
CONTROLLER_NAME = env("CONTROLLER_NAME")
CONTROLLER_CONTACT = env("CONTROLLER_CONTACT", DEFAULT_FROM_EMAIL)
DPO_CONTACT = env("DPO_CONTACT")
