"""Settings of the tests: the gateway's own, in a data folder that is nobody's."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# One folder a process: xdist's workers, and runs side by side, share nothing.
DATA = Path(tempfile.mkdtemp(prefix="copilot-gateway-tests-"))
atexit.register(shutil.rmtree, DATA, ignore_errors=True)
os.environ["COPILOT_DATA_DIR"] = str(DATA)
for _name in ("DATABASE_URL", "REDIS_URL", "GH_TOKEN", "GITHUB_TOKEN_FILE"):
    os.environ.pop(_name, None)

from copilot_site.settings import *  # noqa: E402, F403
from copilot_site.settings import DATABASES, INSTALLED_APPS, STORAGES  # noqa: E402

# Tests name providers as they go.
_providers = [f"allauth.socialaccount.providers.{name}" for name in ("github", "openid_connect")]
INSTALLED_APPS += [name for name in _providers if name not in INSTALLED_APPS]
# A file, not memory: code in other threads opens connections of its own.
DATABASES["default"]["TEST"] = {"NAME": str(DATA / "test.sqlite3")}
DATABASES["default"]["CONN_MAX_AGE"] = 0
# Pages under test need no collected files.
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
# A code must not end between its making and its sending.
MFA_TOTP_TOLERANCE = 1
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
