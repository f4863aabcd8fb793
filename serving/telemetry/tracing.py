"""OpenTelemetry traces, if they are configured."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc

from recsys.config.serving import TracingSettings
from recsys.errors import ConfigurationError

_EXPORT_SECONDS = 2  # the longest that a collector that is down delays the shutdown
_NO_SPAN: AbstractContextManager[Any] = nullcontext()


class Tracer:
    """The tracer of a service without tracing."""

    is_on = False

    def span(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Return a context that traces nothing."""
        return _NO_SPAN

    def close(self) -> None:
        """Do nothing."""


class OpenTelemetryTracer(Tracer):
    """Sends to a collector a sample of the requests, and those whose callers trace them.

    Raises:
        ConfigurationError: If OpenTelemetry is not installed.
    """

    is_on = True

    def __init__(self, settings: TracingSettings):
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
            from opentelemetry.trace import SpanKind
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigurationError(
                f"serving.tracing needs {error.name}: pip install 'flash-sale-recsys[tracing]', or remove the key"
            ) from None
        self._provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(settings.share),
            resource=Resource.create({"service.name": "recsys"}),
            shutdown_on_exit=False,
        )
        is_plain = not settings.endpoint.startswith("https")
        exporter = OTLPSpanExporter(settings.endpoint, is_plain, timeout=_EXPORT_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("recsys.serving")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER

    def span(self, method: str, context: grpc.ServicerContext) -> AbstractContextManager[Any]:
        """Trace a request, as part of its caller's trace if the caller sends one."""
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        parent = self._propagator.extract(metadata)
        attributes = {"rpc.system": "grpc", "rpc.method": method}
        return self._tracer.start_as_current_span(method, parent, kind=self._kind, attributes=attributes)

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()


def make_tracer(settings: TracingSettings | None) -> Tracer:
    """Return the tracer for the settings; one that traces nothing without settings."""
    return Tracer() if settings is None else OpenTelemetryTracer(settings)
