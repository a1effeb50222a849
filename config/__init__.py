"""Composition root: settings, urls, ASGI, Celery, health, error envelope."""
