"""Every address of the web process, but the socket."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from config import docs, errors, health, metrics
from conflicts.admin.simulator import simulator
from pems_sync.admin.operations import operations

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("admin/operations/", admin.site.admin_view(operations), name="operations"),
    path("admin/policies/simulator/", admin.site.admin_view(simulator), name="policy_simulator"),
    path("admin/", admin.site.urls),
    path("api/", include("pems_sync.api.urls")),
    path("api/", include("conflicts.api.urls")),
    path("", include("realtime.urls")),
    path("api/health/live", health.LiveView.as_view()),
    path("api/health/ready", health.ReadyView.as_view()),
    path("api/health/write-sync", health.WriteSyncView.as_view()),
    path("metrics", metrics.metrics),
    path("api/schema", docs.SchemaView.as_view(), name="schema"),
    path("api/docs", docs.DocsView.as_view()),
    re_path(r"^api(?:/|$)", errors.no_such_path),
]
