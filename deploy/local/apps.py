from django.apps import AppConfig


class LocalStackConfig(AppConfig):
    name = "deploy.local"
    label = "local_stack"
