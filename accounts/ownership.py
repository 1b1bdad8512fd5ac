"""What becomes of a seat whose owner is deleted: it is set aside, and serves nobody by itself.

Without an owner it would count as the organisation's, and a personal seat is never anybody else's.
"""

from typing import Any

from django.db.models.signals import pre_delete
from django.dispatch import receiver

from accounts import states
from accounts.models import Account, Member

State = Account.State
# The actor in the audit log.
DEPARTURE = "departure of the owner"


@receiver(pre_delete, sender=Member)
def set_aside(sender: type[Member], instance: Member, **_: Any) -> None:
    """Pause what is not frozen; the token stays until somebody disconnects the account."""
    for account in instance.accounts.exclude(state=State.FROZEN):
        reason = f"its owner {instance.get_username()} was deleted"
        states.set_state(account, State.PAUSED, reason, None, DEPARTURE)
