from django.urls import path

from conflicts.api import bulk, simulating, views

urlpatterns = [
    path("pems/policies/simulate", simulating.SimulateView.as_view()),
    path("pems/conflicts", views.ConflictsView.as_view()),
    path("pems/conflicts/bulk-resolve", bulk.BulkResolveView.as_view()),
    path("pems/conflicts/<str:conflict_id>", views.ConflictView.as_view()),
    path("pems/conflicts/<str:conflict_id>/resolve", views.ResolveView.as_view()),
    path("pems/conflicts/<str:conflict_id>/undo", views.UndoView.as_view()),
]
