"""What the management API takes and gives, made from the models, so that both say the same.

Foreign keys are named by their column (`team_id`), times are ISO with their offset, credits integer
nano-AIU. A secret can be written and is never given back: an answer says `has_<name>` instead.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, Literal

from django.db import models
from ninja import Schema
from pydantic import ConfigDict, Field, create_model

from accounts.encryption import EncryptedTextField

MAX_TEXT = 10_000


class Strict(Schema):
    """A misspelt name is an error, not silence."""

    model_config = ConfigDict(extra="forbid")


def input_of(
    model: type[models.Model], names: Iterable[str], *, title: str, partial: bool
) -> type[Strict]:
    """The schema of a body. `partial`: every field may be absent, and then stays as it is."""
    fields: dict[str, Any] = {}
    for name in names:
        field = _column(model, name)
        must = not partial and not field.blank and not field.has_default()
        fields[name] = (
            type_of(field),
            Field(
                ... if must else None,
                max_length=field.max_length if _is_free_text(field) else None,
                description=str(field.help_text) or None,
            ),
        )
    return create_model(title, __base__=Strict, **fields)


def output_of(model: type[models.Model], names: Iterable[str], *, title: str) -> type[Schema]:
    """The schema of one row in an answer."""
    fields: dict[str, Any] = {}
    for name in names:
        field = _column(model, name)
        if isinstance(field, EncryptedTextField):
            fields[f"has_{name}"] = (bool, ...)
        else:
            fields[name] = (type_of(field) | None, None)
    return create_model(title, __base__=Schema, **fields)


def row_of(row: models.Model, names: Iterable[str]) -> dict[str, Any]:
    """A row as an answer gives it."""
    shown: dict[str, Any] = {}
    for name in names:
        value = getattr(row, name)
        if isinstance(_column(type(row), name), EncryptedTextField):
            shown[f"has_{name}"] = bool(value)
        else:
            shown[name] = value
    return shown


def type_of(field: Any) -> Any:
    """The type of a column's values in JSON."""
    match field:
        case models.ForeignKey():
            return int | None
        case models.BooleanField():
            return bool
        case models.FloatField():
            return float
        case models.IntegerField():
            return int | None if field.null else int
        case models.DateTimeField():
            return datetime | None if field.null else datetime
        case models.DateField():
            return date
        case models.JSONField():
            return list[str] if field.default is list else Any
        case _ if field.choices:
            words = [value for value, _ in field.choices]
            return Literal[tuple(words + [""] if field.blank else words)]
        case _:
            return str


def _column(model: type[models.Model], name: str) -> Any:
    return model._meta.get_field(name.removesuffix("_id") if _is_key(model, name) else name)


def _is_key(model: type[models.Model], name: str) -> bool:
    return any(field.attname == name != field.name for field in model._meta.concrete_fields)


def _is_free_text(field: Any) -> bool:
    return isinstance(field, models.CharField) and not field.choices
