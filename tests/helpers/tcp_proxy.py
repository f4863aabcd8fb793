"""A TCP proxy that can stall, cut its connections, and lead to another server."""

import select
import socket
import threading
from contextlib import suppress


class TcpProxy:
    """Passes bytes between its port and a port of this machine, until it is closed."""

    def __init__(self, target: int):
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._passes = threading.Event()
        self._passes.set()
        self._is_cut = False
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def passes(self) -> bool:
        """Whether bytes pass."""
        return self._passes.is_set() and not self._is_cut

    def stall(self) -> None:
        """Hold all bytes back; connections stay open."""
        self._passes.clear()

    def cut(self) -> None:
        """Close all connections, and every new one at once."""
        self._is_cut = True
        self.drop()

    def drop(self) -> None:
        """Close all connections; new ones are accepted."""
        for each in list(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        """Pass bytes again."""
        self._is_cut = False
        self._passes.set()

    def close(self) -> None:
        """Close the port and all connections."""
        self._listener.close()
        self.cut()
        self._passes.set()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with caller, suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
            self._open |= {caller, server}
            try:
                other = {caller: server, server: caller}
                while not self._is_cut:
                    for ready in select.select([caller, server], [], [])[0]:
                        data = ready.recv(1 << 16)
                        self._passes.wait()
                        if not data or self._is_cut:
                            return
                        other[ready].sendall(data)
            finally:
                self._open -= {caller, server}
