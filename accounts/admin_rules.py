"""Who may do what in the admin, what it never shows, and how it lists tables of a million rows."""

from datetime import datetime, timedelta
from typing import Any

from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.timezone import localtime

from accounts import audit
from accounts.access import address_of, oversees
from accounts.encryption import EncryptedTextField
from accounts.models import Member

COUNT_UP_TO = 10_000
# Columns that are no ciphertext and still nobody's to see, or to find out by filtering: hashes of
# passwords, and where allauth keeps the secrets of second factors.
SECRET_NAMES = frozenset({"password", "data"})


def actor_of(request: HttpRequest) -> Member:
    assert isinstance(request.user, Member)
    return request.user


def secret_names(model: type[models.Model]) -> frozenset[str]:
    """The columns of a model that no page shows: ciphertext and hashes of secrets."""
    fields = model._meta.concrete_fields
    sealed = {f.name for f in fields if isinstance(f, EncryptedTextField | models.BinaryField)}
    return frozenset(sealed | {f.name for f in fields if f.name in SECRET_NAMES})


class Administrators:
    """Changed by administrators only, whatever single permissions a member was given; all audited.

    Auditors look. Secrets are in no form, and no filter of an address can guess them.
    """

    # Those who choose an action on more rows than that did not look at them.
    list_max_show_all = 200

    def _may(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def _may_look(self, request: HttpRequest) -> bool:
        user = request.user
        return isinstance(user, Member) and user.is_active and oversees(user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self._may_look(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may_look(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request)

    def has_act_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Actions, also on rows that cannot be edited."""
        return self._may(request)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in secret_names(db_field.model):
            return None
        return super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        parts = set(lookup.split("__"))
        hidden = secret_names(self.model) | SECRET_NAMES  # type: ignore[attr-defined]
        if parts & hidden:
            return False
        return bool(super().lookup_allowed(lookup, value, request))  # type: ignore[misc]

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """What hangs on a row goes with it: only the row itself asks for the right to delete."""
        found, counts, needed, protected = super().get_deleted_objects(objs, request)  # type: ignore[misc]
        own = {str(self.opts.verbose_name)}  # type: ignore[attr-defined]
        return found, counts, set(needed) & own, protected

    def log_addition(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        self._record(request, "added", obj, message)
        return super().log_addition(request, obj, message)  # type: ignore[misc]

    def log_change(self, request: HttpRequest, obj: models.Model, message: Any) -> Any:
        if message:
            self._record(request, "changed", obj, message)
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self._record(request, "deleted", obj, "")
        return super().log_deletions(request, queryset)  # type: ignore[misc]

    def _record(self, request: HttpRequest, act: str, obj: models.Model, message: Any) -> None:
        # The message names the fields that changed, never their values.
        detail = {"id": str(obj.pk), "what": message} if message else {"id": str(obj.pk)}
        action = f"{obj._meta.model_name}.{act}"
        audit.record(actor_of(request), action, obj, detail, address_of(request))


class ReadOnly(Administrators):
    """Rows that only the gateway writes."""

    actions: Any = ()
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than 10,000 rows: counting a million costs more than showing them."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        if not isinstance(rows, models.QuerySet):
            return len(rows)
        return int(rows.order_by()[:COUNT_UP_TO].count())


class PeriodQuerySet(models.QuerySet[Any]):
    """Offers every period between the first row and the last in the date hierarchy.

    Asking which of them hold rows reads the whole table: a second for every 300,000 rows.
    """

    def datetimes(self, field_name: str, kind: str, *args: Any, **kwargs: Any) -> Any:
        ends = self.aggregate(first=models.Min(field_name), last=models.Max(field_name))
        if ends["first"] is None:
            return []
        period = _start(localtime(ends["first"]), kind)
        periods = []
        while period <= localtime(ends["last"]):
            periods.append(period)
            period = _start(period + _STEP[kind], kind)
        return periods

    def aggregate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The first and the last of a whole table, asked one by one: each is an index's end.

        Together, as the date hierarchy asks for them, SQLite reads all of it.
        """
        rows = self.order_by()
        if set(kwargs) != {"first", "last"} or self.query.where:
            return models.QuerySet.aggregate(rows, *args, **kwargs)
        return {
            name: models.QuerySet.aggregate(rows, **{name: kwargs[name]})[name] for name in kwargs
        }


# Longer than the period and shorter than two of them; `_start` cuts the rest.
_STEP = {"year": timedelta(days=370), "month": timedelta(days=32), "day": timedelta(hours=26)}


def _start(moment: datetime, kind: str) -> datetime:
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return {"year": day.replace(month=1, day=1), "month": day.replace(day=1), "day": day}[kind]


class Journal(ReadOnly):
    """A table that grows with every request: read-only, as fast with a million rows.

    Searching compares whole ids, which an index answers; `exact_search` names the columns.
    """

    list_per_page = 50
    list_fullwidth = True
    paginator = BoundedPaginator
    exact_search: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        model, order = self.model, self.ordering  # type: ignore[attr-defined]
        return PeriodQuerySet(model).order_by(*order).defer(*secret_names(model))

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.exact_search

    def get_sortable_by(self, request: HttpRequest) -> tuple[str, ...]:
        """Only what an index orders."""
        return tuple(name.removeprefix("-") for name in self.ordering)  # type: ignore[attr-defined]

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if "\x00" in term:
            return queryset.none(), False
        anywhere = models.Q(pk__in=[])
        for name in self.exact_search:
            anywhere |= _equal(self.model, name, term)  # type: ignore[attr-defined]
        return queryset.filter(anywhere), False


def _equal(model: type[models.Model], name: str, term: str) -> models.Q:
    field = model._meta.get_field(name)
    if isinstance(field, models.IntegerField):
        fits = term.isascii() and term.isdecimal() and len(term) < 19
        return models.Q(**{name: int(term)}) if fits else models.Q(pk__in=[])
    return models.Q(**{name: term})
