"""The admin of models: aliases are edited here, catalogs are only looked at."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from proxy.models import Catalog, ModelAlias


@admin.register(ModelAlias)
class ModelAliasAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("pattern", "model", "is_enabled", "note")
    list_filter = ("is_enabled",)
    search_fields = ("pattern", "model", "note")


@admin.register(Catalog)
class CatalogAdmin(ModelAdmin):  # type: ignore[misc]
    """Copilot's own list: read-only, because the next refresh would undo a change."""

    list_display = ("account", "model_count", "fetched_at", "error")
    readonly_fields = ("account", "model_names", "fetched_at", "error", "updated_at")
    exclude = ("entries",)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("account")

    @admin.display(description="models")
    def model_count(self, catalog: Catalog) -> int:
        return len(catalog.entries)

    @admin.display(description="models")
    def model_names(self, catalog: Catalog) -> str:
        return ", ".join(sorted(str(entry.get("id")) for entry in catalog.entries))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Catalog | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Catalog | None = None) -> bool:
        return False
