"""The REST API (API.md). Views translate: decisions are in pems_sync.services, the access gate in pems_sync.access."""
