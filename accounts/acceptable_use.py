"""The notice of acceptable use: published by an administrator, agreed to by each member.

A key works only when its owner has agreed to the newest text (`accounts.keys`). Where no text was
ever published, or the newest is empty, nothing is asked.
"""

from django.utils.timezone import now

from accounts import audit
from accounts.models import Member, Notice

MAX_CHARS = 20_000


def current() -> Notice | None:
    """The newest text, None when there is none to agree to."""
    newest: Notice | None = Notice.objects.first()
    return newest if newest is not None and newest.text.strip() else None


def owed_by(member: Member) -> Notice | None:
    """The text this member has not agreed to yet."""
    notice = current()
    return None if notice is None or member.notice_id == notice.pk else notice


def publish(text: str, *, actor: Member, address: str = "") -> Notice:
    """Make `text` the notice; everybody is asked again. Who publishes it has agreed to it."""
    notice = Notice.objects.create(text=text.strip(), published_by=actor.get_username())
    detail = {"notice": notice.pk, "characters": len(notice.text)}
    audit.record(actor, "notice.published", notice, detail, address)
    if notice.text:
        agree(actor, notice.pk, address=address)
    _tell_keys()
    return notice


def agree(member: Member, notice_id: int, *, address: str = "") -> bool:
    """Note that `member` agreed to that text. False when another text has come meanwhile."""
    notice = current()
    if notice is None or notice.pk != notice_id:
        return False
    member.notice, member.notice_agreed_at = notice, now()
    member.save(update_fields=["notice", "notice_agreed_at", "updated_at"])
    audit.record(member, "notice.agreed", notice, {"notice": notice.pk}, address)
    _tell_keys()
    return True


def _tell_keys() -> None:
    """This process at once; the others see it within a second."""
    from accounts import keys

    keys.ring.refresh(force=True)
