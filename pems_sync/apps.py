from django.apps import AppConfig


class PemsSyncConfig(AppConfig):
    name = "pems_sync"
    verbose_name = "Sync engine"

    def ready(self) -> None:
        """Those who carry out what a second person approved say so."""
        from pems_sync.services import rollback, undoing  # noqa: F401
