"""Pages of the proxy: approvals, models, one key, set-up, health."""

from django.urls import path

from proxy import approval_views, key_views, model_views, views
from proxy.consumers import ApprovalsConsumer

urlpatterns = [
    path("approvals/", approval_views.approvals, name="approvals"),
    path("approvals/rules/", approval_views.rules, name="approval-rules"),
    path("approvals/rules/new/", approval_views.new_rule, name="approval-rule-new"),
    path("approvals/rules/<int:rule_id>/", approval_views.rule, name="approval-rule"),
    path(
        "approvals/rules/<int:rule_id>/delete/",
        approval_views.delete_rule,
        name="approval-rule-delete",
    ),
    path("approvals/<str:approval_id>/", approval_views.decide, name="decide"),
    path("models/", model_views.models, name="models"),
    path("models/aliases/", model_views.add_alias, name="alias-add"),
    path("models/aliases/<int:alias_id>/", model_views.act_on_alias, name="alias-act"),
    path("models/policies/new/", model_views.new_policy, name="policy-new"),
    path("models/policies/<int:policy_id>/", model_views.policy, name="policy"),
    path(
        "models/terms/<int:account_id>/<path:model_id>/",
        model_views.model_terms,
        name="model-terms",
    ),
    path("models/changes/", model_views.changes, name="model-changes"),
    path("models/changes.atom", model_views.feed, name="model-feed"),
    path("keys/new/", key_views.new_key, name="key-new"),
    path("keys/<str:prefix>/", key_views.key, name="key"),
    path("keys/<str:prefix>/revoke/", key_views.revoke_key, name="key-revoke"),
    path("keys/<str:prefix>/rotate/", key_views.rotate_key, name="key-rotate"),
    path("keys/<str:prefix>/store/", key_views.store_bodies, name="key-store"),
    path("keys/<str:prefix>/extend/", key_views.extend_key, name="key-extend"),
    path("keys/<str:prefix>/limits/", key_views.limit_key, name="key-limits"),
    path("keys/<str:prefix>/seat/", key_views.seat_key, name="key-seat"),
    path("keys/<str:prefix>/copy-limits/", key_views.copy_limits, name="key-copy-limits"),
    path("setup/", views.setup, name="setup"),
    path("translate/", views.translate, name="translate"),
    path("setup/seen/", views.seen, name="setup-seen"),
    path("health/", views.health, name="health"),
]

websocket_urlpatterns = [path("ws/approvals/", ApprovalsConsumer.as_asgi())]
