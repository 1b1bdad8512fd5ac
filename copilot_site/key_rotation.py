"""Stored secrets written anew with the first of ENCRYPTION_KEYS, so that older keys can go."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.db import models

from accounts.encryption import EncryptedTextField, Secret, Undecryptable, decrypt, encrypt

CHUNK = 200


@dataclass(slots=True)
class Rotation:
    """How many secrets were written anew; `unreadable` names the rows that no key fits."""

    rewritten: int = 0
    unreadable: list[str] = field(default_factory=list)


def rotate() -> Rotation:
    """Write every stored secret again. Safe beside a running gateway, and to be run again."""
    done = Rotation()
    for model, name in _fields():
        rows = model._default_manager.exclude(**{name: Secret("")}).order_by("pk")
        for pk, secret in rows.values_list("pk", name).iterator(CHUNK):
            try:
                anew = Secret.of(secret.reveal())
            except Undecryptable:
                done.unreadable.append(f"{model._meta.verbose_name} {pk}: {name}")
                continue
            # Only over what was read: a sign-in that came meanwhile is newer and stays.
            same = model._default_manager.filter(**{"pk": pk, name: secret})
            done.rewritten += same.update(**{name: anew})
    _rotate_factors(done)
    return done


def _rotate_factors(done: Rotation) -> None:
    """Secrets of second factors, which allauth keeps inside a JSON column."""
    for row in Authenticator.objects.order_by("pk").iterator(CHUNK):
        anew = dict(row.data)
        try:
            for name in ("secret", "seed"):
                if isinstance(anew.get(name), str):
                    anew[name] = encrypt(decrypt(anew[name]))
        except Undecryptable:
            done.unreadable.append(f"second factor {row.pk}")
            continue
        if anew != row.data:
            same = Authenticator.objects.filter(pk=row.pk, data=row.data)
            done.rewritten += same.update(data=anew)


def _fields() -> Iterator[tuple[type[models.Model], str]]:
    for model in apps.get_models():
        for each in model._meta.concrete_fields:
            if isinstance(each, EncryptedTextField):
                yield model, each.name
