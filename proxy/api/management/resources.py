"""Rows over HTTP: list, read, add, change and remove, the same for every kind of row.

A `Resource` says which columns are shown and which may be written; rules that concern more than one
row are the subject modules', called through `check`. Every change is in the audit log.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldError, ObjectDoesNotExist, ValidationError
from django.db import DataError, IntegrityError, models, transaction
from django.db.models import ProtectedError
from django.http import HttpRequest, JsonResponse
from ninja import Router

from accounts import audit, hours
from accounts.database import in_database
from accounts.encryption import EncryptedTextField, Secret
from accounts.hosts import client_address
from accounts.models import Member
from proxy.api.management.callers import member_of
from proxy.api.management.schemas import Strict, input_of, output_of, row_of
from proxy.errors import Conflict, InvalidRequest, NotFound

PAGE = 50
MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of row. `path` is its plural in addresses, `one` its word in sentences.

    `check` sees a row before it is saved and raises Django's `ValidationError`; `filters` are columns
    that a list may be narrowed by, each equal to the value in the query.
    """

    path: str
    one: str
    model: type[models.Model]
    shown: tuple[str, ...]
    writable: tuple[str, ...] = ()
    adds: bool = True
    removes: bool = True
    filters: tuple[str, ...] = ()
    newest_first: bool = False
    check: Callable[[Any, Member], None] | None = None

    @property
    def pk(self) -> str:
        return str(self.model._meta.pk.attname)


def router_of(resource: Resource) -> Router:
    """The operations of one resource."""
    router = Router(tags=[resource.path])
    name = resource.model.__name__
    out = output_of(resource.model, resource.shown, title=name)
    _reading(router, resource, out)
    if resource.writable:
        _writing(router, resource, out)
    return router


def _reading(router: Router, resource: Resource, out: type[Any]) -> None:
    @router.get("", summary=f"List {resource.path}", operation_id=f"list_{_id(resource)}")
    async def list_rows(request: HttpRequest) -> JsonResponse:
        return JsonResponse(await in_database(page_of, resource, request.GET.dict()))

    @router.get(
        "/{pk}", response=out, summary=f"One {resource.one}", operation_id=f"get_{_id(resource)}"
    )
    async def read_row(request: HttpRequest, pk: str) -> JsonResponse:
        return JsonResponse(await in_database(lambda: row_of(find(resource, pk), resource.shown)))


def _writing(router: Router, resource: Resource, out: type[Any]) -> None:
    name = resource.model.__name__
    new = input_of(resource.model, resource.writable, title=f"{name}New", partial=False)
    part = input_of(resource.model, resource.writable, title=f"{name}Change", partial=True)

    async def add_row(request: HttpRequest, payload: Any) -> JsonResponse:
        by = member_of(request)
        values = payload.model_dump(exclude_unset=True)
        row = await in_database(save, resource, resource.model(), values, by, request)
        return JsonResponse(row, status=201)

    async def change_row(request: HttpRequest, pk: str, payload: Any) -> JsonResponse:
        by = member_of(request)
        values = payload.model_dump(exclude_unset=True)
        return JsonResponse(await in_database(change, resource, pk, values, by, request))

    async def remove_row(request: HttpRequest, pk: str) -> JsonResponse:
        by = member_of(request)
        await in_database(remove, resource, pk, by, request)
        return JsonResponse({"removed": pk})

    # Ninja reads the body's schema from the annotation; these classes are made at run time.
    add_row.__annotations__["payload"] = new
    change_row.__annotations__["payload"] = part
    kind = _id(resource)
    if resource.adds:
        router.post(
            "", response={201: out}, summary=f"Add a {resource.one}", operation_id=f"add_{kind}"
        )(add_row)
    router.patch(
        "/{pk}", response=out, summary=f"Change a {resource.one}", operation_id=f"change_{kind}"
    )(change_row)
    if resource.removes:
        router.delete("/{pk}", summary=f"Remove a {resource.one}", operation_id=f"remove_{kind}")(
            remove_row
        )


def _id(resource: Resource) -> str:
    return resource.path.replace("-", "_")


def page_of(resource: Resource, query: dict[str, str]) -> dict[str, Any]:
    """`limit` rows (1 to 500) after the row `after`, narrowed by the resource's filters."""
    limit = _limit(query.pop("limit", str(PAGE)))
    after = query.pop("after", "")
    unknown = set(query) - set(resource.filters)
    if unknown:
        raise InvalidRequest(
            f"{sorted(unknown)[0]!r} is no filter of {resource.path}; there are: "
            f"{', '.join(('limit', 'after', *resource.filters))}.",
            param=sorted(unknown)[0],
        )
    sign = "-" if resource.newest_first else ""
    rows = _all(resource).order_by(f"{sign}pk")
    try:
        rows = rows.filter(**query)
        if after:
            rows = rows.filter(**{"pk__lt" if sign else "pk__gt": after})
        found = list(rows[: limit + 1])
    except (ValueError, ValidationError, FieldError, OverflowError, DataError):
        raise InvalidRequest("A filter has a value that its column cannot have.") from None
    more = found[limit - 1].pk if len(found) > limit else None
    return {"data": [row_of(row, resource.shown) for row in found[:limit]], "next": more}


def _all(resource: Resource) -> models.QuerySet[Any]:
    return resource.model._default_manager.all()


def _limit(text: str) -> int:
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_PAGE))
    if not digits or not 1 <= int(text) <= MAX_PAGE:
        raise InvalidRequest(f"limit: a number from 1 to {MAX_PAGE} is required.", param="limit")
    return int(text)


def find(resource: Resource, pk: str) -> Any:
    """Raises `NotFound`."""
    try:
        return resource.model._default_manager.get(pk=pk)
    except (ObjectDoesNotExist, ValueError, ValidationError, OverflowError, DataError):
        raise NotFound(f"There is no {resource.one} {pk[:40]!r}.") from None


def change(
    resource: Resource, pk: str, values: dict[str, Any], by: Member, request: HttpRequest
) -> dict[str, Any]:
    return save(resource, find(resource, pk), values, by, request)


def save(
    resource: Resource, row: Any, values: dict[str, Any], by: Member, request: HttpRequest
) -> dict[str, Any]:
    """Write `values` into `row`, new or old. Raises `InvalidRequest` or `Conflict`."""
    is_new = row._state.adding
    fields = {field.attname: field for field in row._meta.concrete_fields}
    for name, value in values.items():
        if value is None and not fields[name].null:
            raise InvalidRequest(f"{name}: null is no value for it.", param=name)
        secret = isinstance(fields[name], EncryptedTextField)
        setattr(row, name, Secret.of(value) if secret else value)
    try:
        with transaction.atomic():
            _check_texts(row, values)
            row.full_clean(exclude=[f.name for f in fields.values() if f.name == "password"])
            if resource.check is not None:
                resource.check(row, by)
            row.save()
            audit.record(
                by,
                f"{row._meta.model_name}.{'added' if is_new else 'changed'}",
                row,
                {"id": str(row.pk), "fields": sorted(values)},
                client_address(request.META),
            )
    except ValidationError as error:
        raise invalid(error) from None
    except (DataError, ValueError, OverflowError):
        # What the database cannot hold: NUL in a text, a number beyond its column.
        raise InvalidRequest("A value cannot be stored.") from None
    except IntegrityError:
        raise Conflict(f"Another {resource.one} stands in the way of these values.") from None
    row.refresh_from_db()
    return row_of(row, resource.shown)


def _check_texts(row: Any, values: dict[str, Any]) -> None:
    """Columns that every kind of limited row has, whose text has a form of its own."""
    if values.get("office_hours"):
        try:
            hours.parse(row.office_hours)
        except ValueError as error:
            raise ValidationError({"office_hours": str(error)}) from None


def remove(resource: Resource, pk: str, by: Member, request: HttpRequest) -> None:
    row = find(resource, pk)
    name, key = str(row), str(row.pk)
    try:
        with transaction.atomic():
            row.delete()
            audit.record(
                by,
                f"{row._meta.model_name}.removed",
                name,
                {"id": key},
                client_address(request.META),
            )
    except ProtectedError:
        raise Conflict(f"{name[:80]} is still used by other rows.") from None


def invalid(error: ValidationError) -> InvalidRequest:
    """Django's findings as the answer's one sentence."""
    if hasattr(error, "error_dict"):
        name, messages = next(iter(error.message_dict.items()))
        if name != "__all__":
            return InvalidRequest(f"{name}: {messages[0]}", param=name)
        return InvalidRequest(str(messages[0]))
    return InvalidRequest(str(error.messages[0]))


__all__ = ["Resource", "Strict", "router_of"]
