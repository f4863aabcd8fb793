"""A gRPC service that answers every request with the same bytes: the cost of the transport alone.

python -m benchmarks.serving_peers.echo --port 50051 --bytes 1500
"""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "recommendations.v1.Recommendations"
THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True, help="size of an answer")
    arguments = parser.parse_args()
    answer = os.urandom(arguments.bytes)
    methods: dict[str, grpc.RpcMethodHandler] = {
        "GetTopSales": grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer)
    }
    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[grpc.method_handlers_generic_handler(SERVICE, methods)])
    server.add_insecure_port(f"127.0.0.1:{arguments.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
