from django.apps import AppConfig


class PemsSyncConfig(AppConfig):
    name = "pems_sync"
    verbose_name = "Sync engine"
