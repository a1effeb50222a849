from django.urls import path

from conflicts.api import views

urlpatterns = [
    path("pems/conflicts", views.ConflictsView.as_view()),
    path("pems/conflicts/<str:conflict_id>", views.ConflictView.as_view()),
    path("pems/conflicts/<str:conflict_id>/resolve", views.ResolveView.as_view()),
]
