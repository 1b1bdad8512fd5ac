"""Background work of accounts. Every task may run twice or be cut off without harm."""

from celery import shared_task

from accounts import tokens
from accounts.errors import AccountUnavailable


@shared_task
def refresh_tokens() -> int:
    """Refresh every token that ends soon, end cool-downs. Run it every half minute."""
    return tokens.refresh_due()


@shared_task
def refresh_account(account_id: int) -> str:
    """Refresh one account's token now, as an administrator asked; what came of it, in words."""
    try:
        return f"{tokens.refresh_now(account_id).login}: refreshed"
    except AccountUnavailable as unavailable:
        # In the row and in the log already.
        return unavailable.message
