"""Deliveries: notices on their way to channels, tried again with back-off, sent by one worker only.

A worker claims a delivery by one conditional UPDATE; the claim ends by itself, so that what a killed
worker held is tried again by another.
"""

import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db.models import Q, QuerySet
from django.utils.timezone import now

from usage import channels
from usage.bounds import storable
from usage.models import Channel, Delivery, Notification

State = Delivery.State
BACK_OFF: Final = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=3),
    timedelta(hours=6),
)
MAX_ATTEMPTS: Final = len(BACK_OFF) + 1
# Longer than any channel takes: ten seconds for webhooks, EMAIL_TIMEOUT for mail.
CLAIM: Final = timedelta(minutes=3)
AT_ONCE: Final = 6
RUN_S: Final = 45.0
MAX_DIGEST: Final = 500
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Message:
    """One message to one channel, claimed by us."""

    channel: Channel
    deliveries: tuple[Delivery, ...]
    delivery_id: str

    @property
    def notices(self) -> list[Notification]:
        return [delivery.notification for delivery in self.deliveries]


def deliver(at: datetime | None = None) -> int:
    """Send what is due to channels that want it at once; how many notices were sent.

    Channels are served side by side, a channel one after the other; one that fails waits for its
    next try, and what stands behind it waits for the next run.
    """
    return _send_rounds(at or now(), is_digest=False)


def send_digests(at: datetime | None = None) -> int:
    """Send what has gathered for hourly and daily channels, as one message a channel."""
    return _send_rounds(at or now(), is_digest=True)


def _send_rounds(at: datetime, *, is_digest: bool) -> int:
    sent, failed = 0, set[int]()
    end = time.monotonic() + RUN_S
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="notices") as threads:
        while time.monotonic() < end:
            messages = _claim(at, failed, is_digest=is_digest)
            if not messages:
                break
            # The threads know no ORM: what they found is written here.
            for message, error in zip(messages, threads.map(_attempt, messages), strict=True):
                if error is None:
                    _sent(message)
                    sent += len(message.deliveries)
                else:
                    failed.add(message.channel.pk)
                    _failed(message, error)
    return sent


def _due(at: datetime, *, is_digest: bool) -> QuerySet[Delivery]:
    at_once = Q(channel__digest=Channel.Digest.AT_ONCE)
    return Delivery.objects.filter(
        ~at_once if is_digest else at_once,
        Q(claimed_until=None) | Q(claimed_until__lte=at),
        state=State.WAITING,
        next_try_at__lte=at,
        channel__is_enabled=True,
    )


def _claim(at: datetime, failed: set[int], *, is_digest: bool) -> list[_Message]:
    """The next message of up to AT_ONCE channels, each ours alone."""
    due = _due(at, is_digest=is_digest).exclude(channel__in=failed)
    ids = list(due.order_by("channel_id").values_list("channel_id", flat=True).distinct()[:AT_ONCE])
    messages = []
    for channel in Channel.objects.filter(pk__in=ids).select_related("member"):
        waiting = due.filter(channel=channel).order_by("notification__at", "pk")
        if is_digest and not _is_mine(channel, at):
            failed.add(channel.pk)
            continue
        wanted = list(waiting.values_list("pk", flat=True)[: MAX_DIGEST if is_digest else 1])
        if ours := [pk for pk in wanted if _claimed(pk, at)]:
            rows = Delivery.objects.filter(pk__in=ours).select_related("notification")
            deliveries = tuple(rows.order_by("notification__at", "pk"))
            messages.append(_Message(channel, deliveries, _name(deliveries)))
    return messages


def _is_mine(channel: Channel, at: datetime) -> bool:
    """True for one worker only: two that divide the notices would send two digests."""
    same = Channel.objects.filter(pk=channel.pk, last_digest_at=channel.last_digest_at)
    return same.update(last_digest_at=at) == 1


def _claimed(pk: int, at: datetime) -> bool:
    """One statement: who changes the row has it."""
    free = Q(claimed_until=None) | Q(claimed_until__lte=at)
    row = Delivery.objects.filter(free, pk=pk, state=State.WAITING, next_try_at__lte=at)
    return row.update(claimed_until=at + CLAIM) == 1


def _name(deliveries: Sequence[Delivery]) -> str:
    """The message's id: the same at every try, because it is made of what is in it."""
    text = ",".join(str(delivery.pk) for delivery in deliveries)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"delivery:{text}"))


def _attempt(message: _Message) -> channels.Undelivered | None:
    try:
        channels.send(message.channel, message.notices, message.delivery_id)
    except channels.Undelivered as error:
        return error
    except Exception as error:
        # One channel's surprise must not keep the others' notices.
        logger.exception("channel %s could not be served", message.channel.pk)
        return channels.Undelivered(f"It failed unexpectedly ({type(error).__name__}).")
    return None


def _sent(message: _Message) -> None:
    _mine(message).update(state=State.SENT, sent_at=now(), error="", claimed_until=None)


def _failed(message: _Message, error: channels.Undelivered) -> None:
    """Put off until the next try, or give up. Of a digest each notice counts its own attempts."""
    for delivery in message.deliveries:
        attempts = delivery.attempts + 1
        gives_up = attempts >= MAX_ATTEMPTS
        Delivery.objects.filter(pk=delivery.pk, state=State.WAITING).update(
            state=State.FAILED if gives_up else State.WAITING,
            attempts=attempts,
            next_try_at=delivery.next_try_at if gives_up else now() + BACK_OFF[attempts - 1],
            claimed_until=None,
            error=storable(str(error), 300),
        )
    logger.warning("channel %s (%s): %s", message.channel.pk, message.channel.kind, error)


def _mine(message: _Message) -> QuerySet[Delivery]:
    return Delivery.objects.filter(
        pk__in=[delivery.pk for delivery in message.deliveries], state=State.WAITING
    )


def try_again(delivery: Delivery) -> None:
    """Of what was given up: once more from the beginning."""
    Delivery.objects.filter(pk=delivery.pk, state=State.FAILED).update(
        state=State.WAITING, attempts=0, next_try_at=now(), claimed_until=None
    )


def send_test(channel: Channel, who: str) -> str:
    """Send one test message now; the reason when it was not taken, else empty. Stores nothing."""
    notice = Notification(
        event="test",
        at=now(),
        title="Test of a notification channel",
        text=f"{who} asked for this message. If you read it, the channel works.",
        detail={"url": "/dashboard/notifications/"},
    )
    try:
        channels.send(channel, [notice], str(uuid.uuid4()))
    except channels.Undelivered as error:
        return str(error)
    return ""


def waiting() -> int:
    """How many are on their way; Health shows it."""
    return Delivery.objects.filter(state=State.WAITING).count()


def stuck(at: datetime) -> int:
    """How many should have left half an hour ago: nobody runs the task."""
    late = at - timedelta(minutes=30)
    return Delivery.objects.filter(state=State.WAITING, next_try_at__lt=late).count()
