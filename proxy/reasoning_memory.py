"""Reasoning memory: seals of tool calls that clients do not send back.

Gemini models refuse a tool's result when the call comes back without the `reasoning_opaque` it was
made with; OpenAI's SDKs and most chat clients drop the field. What an answer sealed is kept here
for an hour, by account, model and call id, and put back into the next request of the conversation.
In this process only: another one, or a restart, means one more refused call (see `recovery`).
"""

import time
from collections import OrderedDict
from typing import Any, Final

from proxy.formats.chat_completions.seals import FIELD, SealReader, unsealed_calls

MAX_ENTRIES: Final = 10_000
MAX_AGE_S: Final = 3600.0
# Bytes. Seals are a few kilobytes; what is larger is not worth its room.
MAX_SEAL: Final = 65_536
NAME: Final = "remembered_reasoning"

Key = tuple[int, str, str]


class ReasoningMemory:
    """The newest seals: `MAX_ENTRIES` at most, none older than `MAX_AGE_S`."""

    def __init__(self) -> None:
        self._seals: OrderedDict[Key, tuple[str, float]] = OrderedDict()
        # Until when there may be seals of an account's model.
        self._models: dict[tuple[int, str], float] = {}

    def __len__(self) -> int:
        return len(self._seals)

    def keep(self, account_id: int, model: str, call_id: str, seal: str) -> None:
        if len(seal) > MAX_SEAL:
            return
        key = (account_id, model, call_id)
        until = time.monotonic() + MAX_AGE_S
        self._seals[key] = (seal, until)
        self._models[account_id, model] = until
        self._seals.move_to_end(key)
        if len(self._seals) > MAX_ENTRIES:
            self._seals.popitem(last=False)

    def knows(self, account_id: int, model: str) -> bool:
        """Whether any answer of the model has been sealed lately: most models' never are."""
        return self._models.get((account_id, model), 0.0) >= time.monotonic()

    def get(self, account_id: int, model: str, call_id: str) -> str | None:
        key = (account_id, model, call_id)
        seal, until = self._seals.get(key, ("", 0.0))
        if until < time.monotonic():
            self._seals.pop(key, None)
            return None
        self._seals.move_to_end(key)
        return seal

    def restore(self, account_id: int, model: str, body: dict[str, Any]) -> bool:
        """Put seals back onto the calls of a chat body that have lost them; whether any was."""
        acted = False
        if not self._seals:
            return False
        for message, call_ids in unsealed_calls(body):
            seals = (self.get(account_id, model, call_id) for call_id in call_ids)
            seal = next((one for one in seals if one), None)
            if seal is not None:
                message[FIELD] = seal
                acted = True
        return acted

    def watch(self, account_id: int, model: str) -> SealReader:
        """A reader of one answer that keeps what it finds."""
        return SealReader(lambda call_id, seal: self.keep(account_id, model, call_id, seal))


memory = ReasoningMemory()
