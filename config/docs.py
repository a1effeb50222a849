"""OpenAPI at /api/schema, Swagger UI at /api/docs, both from the code.

The UI runs under `script-src 'self'`: its script is a request of its own, its style a file.
"""

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView


class SchemaView(SpectacularAPIView):
    authentication_classes = ()
    throttle_classes = ()


class DocsView(SpectacularSwaggerSplitView):
    authentication_classes = ()
    throttle_classes = ()
    template_name = "config/swagger_ui.html"
    url_name = "schema"
