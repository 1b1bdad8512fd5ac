"""GitHub's refusals in words: what each means and what the person does next.

Source: docs/upstream.md#exchange-errors.
"""

from typing import Final

# notification_id of the 403 envelope -> what it means and the next step.
BY_NOTIFICATION: Final[dict[str, str]] = {
    "no_copilot_access": "The account has no access to GitHub Copilot. "
    "Buy a plan at github.com/settings/copilot, or ask the organisation for a seat.",
    "not_signed_up": "The account has not signed up for GitHub Copilot. "
    "Sign up at github.com/settings/copilot, then try again.",
    "subscription_ended": "The account's Copilot subscription has ended. "
    "Renew it at github.com/settings/copilot.",
    "feature_flag_blocked": "GitHub has not switched this feature on for the account. "
    "Ask the organisation's owner to enable Copilot Chat in its policies.",
    "enterprise_managed_user_account": "The account is managed by an enterprise that does not "
    "allow Copilot here. Ask its administrator for a seat, or sign in on the enterprise's own "
    "ghe.com address.",
    "spammy_user": "GitHub has flagged the account as spam. Contact GitHub support; the account "
    "stays out of service until an administrator releases it.",
    "billing_locked": "The account's billing is locked. Settle it at github.com/settings/billing.",
    "trade_restricted": "GitHub restricts the account for trade-law reasons. "
    "Contact GitHub support.",
    "trade_restricted_country": "GitHub does not offer Copilot in this country. "
    "Contact GitHub support if the country is wrong.",
    "codespaces_demo_inactive": "The Copilot demo of this codespace has ended. "
    "Sign in with an account that has a Copilot plan.",
    "snippy_not_configured": "The account has not chosen a policy for suggestions that match "
    "public code. Choose one at github.com/settings/copilot, then try again.",
    "expired_coupon": "The coupon that paid for Copilot has expired. "
    "Choose a plan at github.com/settings/copilot.",
    "revoked_coupon": "The coupon that paid for Copilot was revoked. "
    "Choose a plan at github.com/settings/copilot.",
    "go_http_client": "GitHub refuses this kind of client. Check the active upstream profile "
    "in the admin; the account stays out of service until an administrator releases it.",
    "programmatic_token_generation": "GitHub refuses tokens fetched by programs for this account. "
    "Read GitHub's acceptable-use terms; the account stays out of service until an "
    "administrator releases it.",
    "access_revoked": "GitHub has revoked the account's access to Copilot. Contact GitHub "
    "support; the account stays out of service until an administrator releases it.",
    "server_error": "GitHub could not check the seat because of an error of its own. "
    "Try again in a minute.",
}

# Suspicion of abuse: the account is frozen for a person to look at, never retried.
SUSPICIOUS: Final = frozenset(
    {"access_revoked", "go_http_client", "programmatic_token_generation", "spammy_user"}
)
# Says nothing about the seat.
PASSING: Final = frozenset({"server_error"})

# The gateway's own words in `GitHubRefused.reason`.
REVOKED: Final = "revoked"
RATE_LIMITED: Final = "rate_limited"
NOT_ALLOWED: Final = "not_allowed"
FORBIDDEN: Final = "forbidden"
UNREADABLE: Final = "unreadable"
UNREACHABLE: Final = "unreachable"
INCIDENT: Final = "incident"
CLIENT_REFUSED: Final = "client_refused"
NO_CHAT: Final = "chat_disabled"
UNUSABLE: Final = "unusable"

TEXTS: Final[dict[str, str]] = {
    REVOKED: "GitHub does not accept the account's token any more: it was revoked or is wrong. "
    "Sign in again.",
    NOT_ALLOWED: "GitHub does not offer Copilot to this kind of token or to the app that made it. "
    "Sign in with the device flow, or use a fine-grained token with the permission "
    "'Copilot Requests'.",
    UNREADABLE: "GitHub answered with something other than JSON. "
    "Try again in a minute; behind a proxy, check that it lets github.com through.",
    NO_CHAT: "Copilot Chat is switched off for this account. "
    "Ask the organisation's owner to enable it, or check github.com/settings/copilot.",
}

PAT_WITHOUT_PERMISSION: Final = (
    "The fine-grained token lacks the permission 'Copilot Requests'. "
    "Add it under github.com/settings/personal-access-tokens, or sign in with the device flow."
)
PAT_UNSUPPORTED: Final = (
    "GitHub does not take personal access tokens here. Sign in with the device flow, or use a "
    "fine-grained token with the permission 'Copilot Requests'."
)
APP_WITHOUT_KEY: Final = (
    "The GitHub App has no private key. An administrator adds it under Accounts, GitHub Apps."
)
# What GitHub says to a GitHub App. Source: docs/upstream.md#installation-tokens.
APP_UNKNOWN: Final = (
    "GitHub does not accept the App's proof: its client id and private key do not belong together. "
    "Correct them under Accounts, GitHub Apps."
)
APP_SUSPENDED: Final = (
    "The organisation has suspended the App's installation. Its owner can resume it in the "
    "organisation's settings, GitHub Apps."
)
APP_NOT_INSTALLED: Final = (
    "GitHub knows no such installation of this App: it was removed, or the number is wrong. "
    "Install the App in the organisation and correct the number."
)
APP_WITHOUT_PERMISSION: Final = (
    "The App's installation lacks the permission 'Copilot Requests' (write). Add it to the App, let "
    "the organisation's owner approve it, and opt in under the organisation's Copilot policies."
)
CLASSIC_PAT: Final = (
    "Classic personal access tokens (ghp_…) do not work with Copilot. Sign in with the device "
    "flow, or make a fine-grained token with the permission 'Copilot Requests'."
)
UNKNOWN_TEXT: Final = (
    "This is not a GitHub token. Give the one that begins with ghu_, gho_, github_pat_ or ghs_, "
    "or sign in with the device flow."
)
COPILOT_TEXT: Final = (
    "This is a Copilot token, which ends within the half hour. Give the GitHub token that begins "
    "with ghu_, gho_, github_pat_ or ghs_, or sign in with the device flow."
)

# `error` of the device flow -> what it means. Source: docs/upstream.md#device-flow.
BY_DEVICE_ERROR: Final[dict[str, str]] = {
    "expired_token": "The code has expired. Start again to get a new one.",
    "access_denied": "The sign-in was refused on GitHub. Start again if that was a mistake.",
    "incorrect_device_code": "GitHub does not know this sign-in any more. Start again.",
    "incorrect_client_credentials": "GitHub does not know the client id of the upstream profile. "
    "Correct it in the admin, then start again.",
    "unsupported_grant_type": "GitHub did not accept the way of signing in. Check that GITHUB_URL "
    "names GitHub, then start again.",
    "device_flow_disabled": "The app of the upstream profile does not allow the device flow. "
    "Choose another client id in the admin, then start again.",
}


def text_of(notification_id: str, github_says: str) -> str:
    """The words for a 403; an id nobody has seen is shown with GitHub's own words."""
    if notification_id in BY_NOTIFICATION:
        return BY_NOTIFICATION[notification_id]
    said = github_says.rstrip(".") or "no reason given"
    return f"GitHub refuses Copilot to this account: {said}. Check github.com/settings/copilot."


# What of an identity an error text may name -> the header that carries it, the most telling first.
_HEADERS: Final = (
    ("api-version", "X-GitHub-Api-Version"),
    ("api version", "X-GitHub-Api-Version"),
    ("apiversion", "X-GitHub-Api-Version"),
    ("integration", "Copilot-Integration-Id"),
    ("plugin", "Editor-Plugin-Version"),
    ("editor", "Editor-Version"),
    ("client version", "Editor-Version"),
    ("user-agent", "User-Agent"),
    ("user agent", "User-Agent"),
)


def refused_header(text: str) -> str:
    """The header of our identity that an upstream's error text names; empty when it names none."""
    lowered = text.lower()
    return next((header for word, header in _HEADERS if word in lowered), "")
