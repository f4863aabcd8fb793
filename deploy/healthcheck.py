"""Ask a service whether it is ready, and exit with 0 if it is: for containers, whose own probes speak no TLS.

python deploy/healthcheck.py 127.0.0.1:50051
python deploy/healthcheck.py 127.0.0.1:50051 --certificate tls.crt --name recsys.internal
"""

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_SECONDS = 3.0


def main() -> None:
    """Ask, say what the answer was, and exit."""
    parser = argparse.ArgumentParser(description="Exit with 0 if the service is ready.")
    parser.add_argument("target", help="HOST:PORT")
    parser.add_argument("--service", default="", help="A part of it, recommendations.v1.Recommendations/fresh.")
    parser.add_argument("--certificate", type=Path, help="The service's own, where it is encrypted.")
    parser.add_argument("--key", type=Path, help="Its private key, where the service asks its callers for one.")
    parser.add_argument("--name", help="A host that the certificate is for.")
    asked = parser.parse_args()
    try:
        with _channel(asked) as channel:
            request = health_pb2.HealthCheckRequest(service=asked.service)
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT_SECONDS).status
    except grpc.RpcError as error:
        sys.exit(f"{asked.target}: {error.code().name}: {error.details()}")
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    print(f"{asked.target}: {name}")
    sys.exit(status != health_pb2.HealthCheckResponse.SERVING)


def _channel(asked: argparse.Namespace) -> grpc.Channel:
    if asked.certificate is None:
        return grpc.insecure_channel(asked.target)
    certificate = asked.certificate.read_bytes()
    own = (asked.key.read_bytes(), certificate) if asked.key else (None, None)
    options = [("grpc.ssl_target_name_override", asked.name)] if asked.name else []
    return grpc.secure_channel(asked.target, grpc.ssl_channel_credentials(certificate, *own), options)


if __name__ == "__main__":
    main()
