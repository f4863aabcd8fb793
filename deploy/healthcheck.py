"""Ask a service whether it is ready, and exit with 0 if it is: for containers, whose probes lack TLS.

python deploy/healthcheck.py 127.0.0.1:50051
python deploy/healthcheck.py 127.0.0.1:50051 --authority tls.crt --name recsys.internal
python deploy/healthcheck.py 127.0.0.1:50051 --authority tls.crt --certificate probe.crt --key probe.key
"""

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_SECONDS = 3.0
_OPTIONS = [("grpc.enable_http_proxy", 0)]  # a probe is asked beside its service


def main() -> None:
    """Ask for the status, print it, and exit."""
    parser = argparse.ArgumentParser(description="Exit with 0 if the service is ready.")
    parser.add_argument("target", help="HOST:PORT")
    parser.add_argument(
        "--service", default="", help="What to check, such as recommendations.v1.Recommendations/fresh."
    )
    parser.add_argument(
        "--authority", type=Path, help="If the service uses TLS: its authority's certificate, or its own."
    )
    parser.add_argument("--certificate", type=Path, help="Certificate of the probe, if clients need one.")
    parser.add_argument("--key", type=Path, help="Private key of the probe's certificate.")
    parser.add_argument("--name", help="Host name in the certificate.")
    arguments = parser.parse_args()
    if (arguments.certificate is None) != (arguments.key is None):
        parser.error("--certificate and --key must be given together: they are the probe's own")
    if arguments.certificate and not arguments.authority:
        parser.error("--certificate needs --authority: the service's certificate is trusted by that")
    try:
        with _channel(arguments) as channel:
            request = health_pb2.HealthCheckRequest(service=arguments.service)
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT_SECONDS).status
    except grpc.RpcError as error:
        sys.exit(f"{arguments.target}: {error.code().name}: {error.details()}")
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    print(f"{arguments.target}: {name}")
    sys.exit(status != health_pb2.HealthCheckResponse.SERVING)


def _channel(arguments: argparse.Namespace) -> grpc.Channel:
    if arguments.authority is None:
        return grpc.insecure_channel(arguments.target, _OPTIONS)
    own = (arguments.key.read_bytes(), arguments.certificate.read_bytes()) if arguments.key else (None, None)
    options = [*_OPTIONS, ("grpc.ssl_target_name_override", arguments.name)] if arguments.name else _OPTIONS
    trusted = grpc.ssl_channel_credentials(arguments.authority.read_bytes(), *own)
    return grpc.secure_channel(arguments.target, trusted, options)


if __name__ == "__main__":
    main()
