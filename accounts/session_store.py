"""Sessions in the database under the SHA-256 of their key: a dump opens nobody's session.

Only the browser has the key itself. 32 random characters need no slow hash.
"""

import hashlib
from typing import Any, cast

from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.utils import timezone

# The column's width; 160 bits are as much as the key has.
STORED_CHARS = 40


def stored(session_key: str | None) -> str | None:
    """What stands in the table for a key; None for none."""
    if session_key is None:
        return None
    return hashlib.sha256(session_key.encode("utf-8", "replace")).hexdigest()[:STORED_CHARS]


class SessionStore(db.SessionStore):
    """Django's own, but for the column `session_key`."""

    def _get_session_from_db(self) -> Session | None:
        row: Session | None = self._valid().first()
        if row is None:
            self._session_key = None
        return row

    async def _aget_session_from_db(self) -> Session | None:
        row: Session | None = await self._valid().afirst()
        if row is None:
            self._session_key = None
        return row

    def _valid(self) -> Any:
        return self.model.objects.filter(
            session_key=stored(self.session_key), expire_date__gt=timezone.now()
        )

    def exists(self, session_key: str | None) -> bool:
        return self.model.objects.filter(session_key=stored(session_key)).exists()

    async def aexists(self, session_key: str | None) -> bool:
        return bool(await self.model.objects.filter(session_key=stored(session_key)).aexists())

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        row = cast(Session, super().create_model_instance(data))
        row.session_key = str(stored(row.session_key))
        return row

    async def acreate_model_instance(self, data: dict[str, Any]) -> Session:
        row = cast(Session, await super().acreate_model_instance(data))
        row.session_key = str(stored(row.session_key))
        return row

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        self.model.objects.filter(session_key=stored(key)).delete()

    async def adelete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        await self.model.objects.filter(session_key=stored(key)).adelete()
