"""Channels: how notices look in a mail, a signed webhook, a Slack-style and a Teams-style chat.

Blocking; run from tasks. The signature of webhooks is described in docs/notifications.md.
"""

import hashlib
import hmac
import json
import secrets
import smtplib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.encryption import Undecryptable
from usage import outgoing
from usage.models import Channel, Notification

Kind = Channel.Kind
MAX_NOTICES: Final = 50
SECRET_PREFIX: Final = "cgwh_"  # noqa: S105
AGENT: Final = "copilot-gateway"
NAME: Final = "Copilot Gateway"


class Undelivered(Exception):
    """The channel did not take it. The message is for people and holds no address."""


def new_secret() -> str:
    """What a webhook's receiver checks signatures with; shown once."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def check_address(kind: str, address: str) -> None:
    """Raises `ValueError` with the reason when the channel's kind cannot use the address."""
    if kind == Kind.MAIL:
        try:
            validate_email(address)
        except ValidationError:
            raise ValueError(_("That is no mail address.")) from None
        return
    try:
        outgoing.read_address(address)
    except outgoing.Refused as refused:
        raise ValueError(str(refused)) from None


def send(channel: Channel, notices: Sequence[Notification], delivery_id: str) -> None:
    """Send the notices as one message. Raises `Undelivered`.

    `delivery_id` stays the same when the message is tried again: receivers drop what they have seen.
    """
    try:
        address = channel.address.reveal()
    except Undecryptable as error:
        raise Undelivered(str(error)) from None
    shown = notices[-MAX_NOTICES:]
    if channel.kind == Kind.MAIL:
        _mail(address, notices, shown)
        return
    try:
        if channel.kind == Kind.WEBHOOK:
            _webhook(channel, address, shown, delivery_id)
        elif channel.kind == Kind.SLACK:
            _chat(address, slack_body(shown))
        else:
            answer = _chat(address, teams_body(shown))
            # The older connectors answer 200 and say in words that they failed.
            if b"failed with error" in answer:
                raise Undelivered("The chat answered that it failed to deliver.")
    except outgoing.Refused as refused:
        raise Undelivered(str(refused)) from None
    except outgoing.Undelivered as undelivered:
        raise Undelivered(str(undelivered)) from None


# Mail


def _mail(address: str, notices: Sequence[Notification], shown: Sequence[Notification]) -> None:
    if not settings.EMAIL_IS_SET_UP:
        raise Undelivered("No mail server is set up. The operator names one in EMAIL_URL.")
    title = _title(notices)
    text = "\n\n".join(_words(notice) for notice in shown)
    message = EmailMessage(
        subject=f"[{NAME}] {title}"[:200],
        body=text + "\n",
        to=[address],
        headers={"Auto-Submitted": "auto-generated"},
    )
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused:
        raise Undelivered("The mail server refuses the address.") from None
    except (smtplib.SMTPException, OSError) as error:
        raise Undelivered(f"The mail server did not take it ({type(error).__name__}).") from None


def _title(notices: Sequence[Notification]) -> str:
    if len(notices) == 1:
        return notices[0].title
    return ngettext("%(n)d notice", "%(n)d notices", len(notices)) % {"n": len(notices)}


def _words(notice: Notification) -> str:
    parts = [notice.title, notice.text, link(notice), f"{notice.at:%Y-%m-%d %H:%M} UTC"]
    return "\n".join(part for part in parts if part)


def link(notice: Notification) -> str:
    """The page to look at; empty while GATEWAY_PUBLIC_URL does not say where the pages are."""
    path = str(notice.detail.get("url", "") or "/dashboard/notifications/")
    return settings.GATEWAY_PUBLIC_URL + path if settings.GATEWAY_PUBLIC_URL else ""


# Webhook


def _webhook(
    channel: Channel, address: str, notices: Sequence[Notification], delivery_id: str
) -> None:
    body = json.dumps(
        {"delivery": delivery_id, "notices": [plain(notice) for notice in notices]},
        ensure_ascii=False,
    ).encode()
    timestamp = str(int(time.time()))
    headers = {
        "content-type": "application/json; charset=utf-8",
        "user-agent": AGENT,
        "x-gateway-event": notices[0].event if len(notices) == 1 else "digest",
        "x-gateway-delivery": delivery_id,
        "x-gateway-timestamp": timestamp,
        "x-gateway-signature": "v1=" + sign(channel.secret.reveal(), timestamp, body),
    }
    outgoing.post(address, body, headers)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256, hex, over timestamp, a dot and the body: an old message cannot be dated anew."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def plain(notice: Notification) -> dict[str, Any]:
    """A notice for programs."""
    return {
        "id": str(notice.pk) if notice.pk else "test",
        "event": notice.event,
        "at": notice.at.isoformat(),
        "title": notice.title,
        "text": notice.text,
        "url": link(notice),
        "detail": notice.detail,
    }


# Chats


def _chat(address: str, body: Mapping[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False).encode()
    headers = {"content-type": "application/json; charset=utf-8", "user-agent": AGENT}
    return outgoing.post(address, text, headers)


def slack_body(notices: Sequence[Notification]) -> dict[str, Any]:
    """`{"text": ...}`, which Slack, Mattermost, Rocket.Chat and Discord's `/slack` take."""
    return {"text": "\n\n".join(_slack_words(notice) for notice in notices)}


def _slack_words(notice: Notification) -> str:
    title, text = _slack_escaped(notice.title), _slack_escaped(notice.text)
    where = link(notice)
    return "\n".join(part for part in (f"*{title}*", text, f"<{where}>" if where else "") if part)


def _slack_escaped(text: str) -> str:
    """Nothing of it is a link or calls everybody of a channel."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("@", "@\u200b")


def teams_body(notices: Sequence[Notification]) -> dict[str, Any]:
    """A message with an Adaptive Card, as Teams' workflow webhooks take it."""
    blocks: list[dict[str, Any]] = []
    for notice in notices:
        blocks.append(_block(notice.title, weight="Bolder", size="Medium"))
        if notice.text:
            blocks.append(_block(notice.text))
        if where := link(notice):
            blocks.append({"type": "TextBlock", "text": f"[{where}]({where})", "wrap": True})
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return {"type": "message", "attachments": [attachment]}


_MARKDOWN: Final = str.maketrans({c: f"\\{c}" for c in "\\`*_[]()#<>"})


def _block(text: str, **look: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": text.translate(_MARKDOWN), "wrap": True, **look}
