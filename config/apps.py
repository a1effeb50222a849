from django.apps import AppConfig


class CompositionConfig(AppConfig):
    name = "config"
    label = "config"
    verbose_name = "pems-sync"

    def ready(self) -> None:
        """Every Django process can ring the worker fleet."""
        from config import celery  # noqa: F401
