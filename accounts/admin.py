"""The admin of accounts, for data surgery. Secrets are never shown; every act is audited.

The rules are in `admin_rules`, the acts in `admin_acts`. Accounts, keys and the audit log show what
was used through them, so they are registered by `usage`.
"""

from accounts import people_admin as people_admin
from accounts import seat_admin as seat_admin
from accounts.admin_rules import Administrators as Administrators
from accounts.admin_rules import ReadOnly as ReadOnly
from accounts.admin_rules import actor_of as actor_of
