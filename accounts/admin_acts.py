"""Acts of the admin: on chosen rows of a list, from a row's menu, from a row's own page.

A link only ever leads to a page that asks; what changes something is sent by a form. The page names
what is touched. Acts that need no question run from a list at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.forms.widgets import Input
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from kombu.exceptions import OperationalError as BrokerAway
from unfold.enums import ActionVariant
from unfold.widgets import (
    INPUT_CLASSES,
    SELECT_CLASSES,
    SWITCH_CLASSES,
    TEXTAREA_CLASSES,
)

from accounts.access import address_of
from accounts.admin_rules import actor_of
from accounts.models import Member

MAX_ROWS: Final = 200
CONFIRMED: Final = "confirmed"


class NotDone(Exception):
    """Why an act was not done to a row; the text is for people."""


# A method of the admin: (self, request, row, what the form said) -> what to tell, or an answer.
Doing = Callable[[Any, HttpRequest, Any, Any], str | HttpResponseBase]
Button = Callable[[Any, HttpRequest], HttpResponseBase]


@dataclass(frozen=True, slots=True)
class Act:
    """`says`: what will become of the rows. `touched`: what else, row by row. `one`: a single row.

    `form` asks for more; it is made with the rows as `rows=`.
    """

    name: str
    title: Any
    do: Doing
    says: Any = ""
    asks: bool = True
    one: bool = False
    form: Callable[..., forms.Form] | None = None
    touched: Callable[[Any], list[str]] | None = None
    is_grave: bool = False


def act(
    title: Any,
    *,
    says: Any = "",
    asks: bool = True,
    one: bool = False,
    form: Callable[..., forms.Form] | None = None,
    touched: Callable[[Any], list[str]] | None = None,
    is_grave: bool = False,
    icon: str | None = None,
) -> Callable[[Doing], Any]:
    """Makes a method `(self, request, row, data)` an action of lists, rows and pages.

    It gives back what to tell, or an answer of its own, and raises `NotDone`.
    """

    def made(do: Doing) -> Any:
        name = do.__name__
        this = Act(name, title, do, says, asks, one, form, touched, is_grave)

        def inner(
            admin: Any,
            request: HttpRequest,
            queryset: QuerySet[Any] | None = None,
            *,
            object_id: str | None = None,
        ) -> HttpResponseBase | None:
            if not admin.has_act_permission(request):
                raise PermissionDenied
            if object_id is not None:
                return _from_page(admin, request, this, object_id)
            assert queryset is not None
            return _from_list(admin, request, this, queryset)

        inner.__name__ = name
        inner.__doc__ = do.__doc__
        variant = ActionVariant.DANGER if is_grave else ActionVariant.DEFAULT
        _named(inner, title, icon, variant)
        return inner

    return made


def way(title: Any, *, icon: str | None = None) -> Callable[[Button], Button]:
    """Makes a method `(self, request)` a button above a list that leads to another page."""

    def made(go: Button) -> Button:
        @wraps(go)
        def inner(admin: Any, request: HttpRequest) -> HttpResponseBase:
            if not admin.has_act_permission(request):
                raise PermissionDenied
            return go(admin, request)

        _named(inner, title, icon, ActionVariant.DEFAULT)
        return inner

    return made


def _named(method: Any, title: Any, icon: str | None, variant: ActionVariant) -> None:
    """What the theme reads of an action."""
    method.short_description, method.icon, method.variant = title, icon, variant
    method.allowed_permissions, method.attrs = ("act",), {}
    method.original_function_name = method.__name__


def _from_list(
    admin: Any, request: HttpRequest, this: Act, queryset: QuerySet[Any]
) -> HttpResponseBase | None:
    rows = list(queryset[: MAX_ROWS + 1])
    if len(rows) > MAX_ROWS:
        words = _("Choose at most %(most)d rows at once.") % {"most": MAX_ROWS}
        admin.message_user(request, words, messages.ERROR)
        return None
    if this.one and len(rows) != 1:
        admin.message_user(request, _("Choose exactly one row."), messages.ERROR)
        return None
    if not (this.asks or this.form) or CONFIRMED in request.POST:
        form = _form(this, request, rows, is_sent=CONFIRMED in request.POST)
        if form is None or form.is_valid():
            return _do(admin, request, this, rows, form.cleaned_data if form else {})
        return _ask(admin, request, this, rows, form, of_list=True)
    return _ask(admin, request, this, rows, _form(this, request, rows), of_list=True)


def _from_page(admin: Any, request: HttpRequest, this: Act, object_id: str) -> HttpResponseBase:
    try:
        row = admin.get_object(request, object_id)
    except (ValidationError, ValueError, OverflowError):
        row = None
    if row is None:
        raise Http404
    form = _form(this, request, [row], is_sent=request.method == "POST")
    if request.method != "POST" or (form is not None and not form.is_valid()):
        return _ask(admin, request, this, [row], form, of_list=False)
    answer = _do(admin, request, this, [row], form.cleaned_data if form else {})
    return answer or HttpResponseRedirect(_page_of(admin, row))


def _page_of(admin: Any, row: Any) -> str:
    if not type(row)._default_manager.filter(pk=row.pk).exists():
        return _address(admin, "changelist")
    return _address(admin, "change", row.pk)


def _address(admin: Any, name: str, *args: Any) -> str:
    return reverse(
        f"{admin.admin_site.name}:{admin.opts.app_label}_{admin.opts.model_name}_{name}", args=args
    )


def _form(
    this: Act, request: HttpRequest, rows: list[Any], *, is_sent: bool = False
) -> forms.Form | None:
    if this.form is None:
        return None
    form = this.form(request.POST if is_sent else None, rows=rows)
    dressed(form)
    return form


def _do(
    admin: Any, request: HttpRequest, this: Act, rows: list[Any], data: dict[str, Any]
) -> HttpResponseBase | None:
    """Do it to each row; what happened to which is told. The first answer of its own is given."""
    told: list[str] = []
    for row in rows:
        try:
            answer = this.do(admin, request, row, data)
        except NotDone as error:
            admin.message_user(request, f"{row}: {error}", messages.ERROR)
            continue
        except BrokerAway:
            words = _("The task queue is away. Check Redis, then try again.")
            admin.message_user(request, words, messages.ERROR)
            break
        if isinstance(answer, HttpResponseBase):
            return answer
        told.append(answer)
    for text in told:
        admin.message_user(request, text, messages.SUCCESS)
    return None


def _ask(
    admin: Any,
    request: HttpRequest,
    this: Act,
    rows: list[Any],
    form: forms.Form | None,
    *,
    of_list: bool,
) -> HttpResponse:
    lines = [(str(row), this.touched(row) if this.touched else []) for row in rows]
    single = rows[0] if len(rows) == 1 else None
    back = _address(admin, "changelist") if of_list or single is None else _page_of(admin, single)
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": str(this.title),
        "subtitle": str(single) if single is not None else None,
        "says": this.says,
        "kind": capfirst(
            admin.opts.verbose_name if single is not None else admin.opts.verbose_name_plural
        ),
        "lines": lines,
        "form": form,
        "of_list": of_list,
        "action": this.name,
        "checkbox": ACTION_CHECKBOX_NAME,
        "chosen": [row.pk for row in rows],
        "confirmed": CONFIRMED,
        "back": back,
        "is_grave": this.is_grave,
        "media": admin.media,
    }
    return render(request, "admin/act.html", context)


def shown_once(
    admin: Any, request: HttpRequest, *, title: str, name: str, secret: str, back: str, says: str
) -> HttpResponse:
    """A secret in this one answer, which no cache keeps."""
    context = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "title": title,
        "name": name,
        "secret": secret,
        "says": says,
        "back": back,
    }
    response = render(request, "admin/shown_once.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response


def by(request: HttpRequest) -> dict[str, Any]:
    """Who acts, as the rules of accounts take it."""
    return {"actor": actor_of(request), "address": address_of(request)}


def is_self(request: HttpRequest, member: Member) -> bool:
    return actor_of(request).pk == member.pk


def dressed(form: Any) -> Any:
    """Give the fields of a plain form the look of the admin's."""
    for field in form.fields.values():
        widget = field.widget
        if "class" in widget.attrs:
            continue
        classes = _classes_of(widget)
        if classes:
            widget.attrs["class"] = " ".join(classes)
    return form


def _classes_of(widget: forms.Widget) -> list[str]:
    if isinstance(widget, forms.CheckboxSelectMultiple):
        return []
    if isinstance(widget, forms.CheckboxInput):
        return list(SWITCH_CLASSES)
    if isinstance(widget, forms.Select):
        return list(SELECT_CLASSES)
    if isinstance(widget, forms.Textarea):
        return list(TEXTAREA_CLASSES)
    if isinstance(widget, Input) and widget.input_type != "hidden":
        return list(INPUT_CLASSES)
    return []
