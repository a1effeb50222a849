"""API.md's addresses. No trailing slash."""

from django.urls import path

from pems_sync.api import (
    committing,
    dead_letters,
    drafts,
    jobs,
    modifications,
    organizations,
    records,
    sync_status,
    tokens,
)

urlpatterns = [
    path("auth/token", tokens.TokenView.as_view()),
    path("organizations", organizations.OrganizationsView.as_view()),
    path("pfa/<str:organization_id>/records", records.RecordsView.as_view()),
    path("pfa/<str:organization_id>/records/<str:pfa_id>", records.RecordView.as_view()),
    path("pfa/<str:organization_id>/drafts", drafts.DraftsView.as_view()),
    path("pfa/<str:organization_id>/drafts/<str:pfa_id>", drafts.DraftView.as_view()),
    path("pems/write-sync", committing.WriteSyncView.as_view()),
    path("pems/sync-status", sync_status.SyncStatusView.as_view()),
    path("pems/queue-metrics", sync_status.QueueMetricsView.as_view()),
    path("pems/sync-logs", jobs.JobsView.as_view()),
    path("pems/sync-logs/<str:job_id>", jobs.JobView.as_view()),
    path("pems/modifications", modifications.ModificationsView.as_view()),
    path("pems/modifications/<str:modification_id>", modifications.ModificationView.as_view()),
    path("pems/modifications/<str:modification_id>/retry", modifications.RetryView.as_view()),
    path("pems/modifications/<str:modification_id>/withdraw", modifications.WithdrawView.as_view()),
    path("pems/dead-letters", dead_letters.DeadLettersView.as_view()),
    path("pems/dead-letters/retry", dead_letters.RetryDeadLettersView.as_view()),
    path("pems/dead-letters/discard", dead_letters.DiscardDeadLettersView.as_view()),
    path("pems/organizations/<str:organization_id>/pause", organizations.PauseView.as_view()),
    path("pems/organizations/<str:organization_id>/resume", organizations.ResumeView.as_view()),
]
