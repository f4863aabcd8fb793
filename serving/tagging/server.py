"""Runs the tagging service until it is stopped."""

from collections.abc import Callable
from contextlib import suppress

import uvicorn

from recsys.config.serving import ServingSettings, host_and_port
from serving.tagging.app import tagging_app
from serving.tagging.metrics import TaggingMetrics
from serving.tagging.photo_tags import PhotoTagger
from serving.telemetry.metrics import MetricsServer


def serve_tagger(tagger: PhotoTagger, settings: ServingSettings, announce: Callable[[str], None]) -> None:
    """Serve a tagger until the process is interrupted.

    Args:
        tagger: The tagger.
        settings: Host, ports, TLS, callers and limits.
        announce: Is called with the address before the service starts.
    """
    metrics, tls = TaggingMetrics(), settings.tls
    scraped = None
    if settings.tagging.metrics_port is not None:
        scraped = MetricsServer(metrics.registry, settings.host, settings.tagging.metrics_port, shared=False)
    config = uvicorn.Config(
        tagging_app(tagger, settings, metrics),
        settings.host,
        settings.tagging.port,
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
        ssl_ca_certs=tls.client_authority if tls else None,
        timeout_graceful_shutdown=int(settings.drain_seconds) or None,
    )
    announce(f"http{'s' if tls else ''}://{host_and_port(settings.host, settings.tagging.port)}")
    try:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()
    finally:
        if scraped is not None:
            scraped.close()
