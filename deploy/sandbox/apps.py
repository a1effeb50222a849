"""Makes `manage.py pems_sandbox` known. There are no models: PEMS is another system."""

from django.apps import AppConfig


class SandboxConfig(AppConfig):
    name = "deploy.sandbox"
    label = "pems_sandbox"
    verbose_name = "PEMS sandbox"
