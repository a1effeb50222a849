"""Django's own admin as the support desk: everything can be looked at by members, nothing can be typed into.

What a person decides here goes through the services, exactly as over the API.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from pems_sync.admin import (  # noqa: F401  (they register)
    approvals,
    dead_letters,
    inbound,
    ledger,
    modifications,
    policies,
    records,
    sign_in,
    tenants,
    windows,
)

_READING_ORDER = (
    "modification",
    "deadletter",
    "attempt",
    "job",
    "record",
    "approval",
    "journalentry",
    "inboundstate",
    "fieldpolicy",
    "organization",
    "connection",
    "maintenancewindow",
)
_APPS = ("pems_sync", "conflicts", "auth")

admin.site.site_header = "pems-sync"
admin.site.site_title = "pems-sync"
admin.site.index_title = "Support desk"
admin.site.site_url = None  # there is no other site to view
admin.site.enable_nav_sidebar = False  # the lists need the width
admin.site.index_template = "admin/pems_sync/index.html"
_alphabetical = admin.site.get_app_list


def _in_reading_order(request: HttpRequest, app_label: str | None = None) -> list[Any]:
    """What support opens first comes first, on the index."""
    apps = _alphabetical(request, app_label)
    for app in apps:
        app["models"].sort(key=lambda model: _place(_READING_ORDER, model["object_name"].lower()))
    return sorted(apps, key=lambda app: _place(_APPS, app["app_label"]))


def _place(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else len(order)


# A site class of our own would have to be named in the settings and could not live in this package, which registers
# itself on the site while it is imported.
admin.site.get_app_list = _in_reading_order  # type: ignore[method-assign]
