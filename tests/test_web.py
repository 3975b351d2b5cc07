import socket
import struct
from http.server import BaseHTTPRequestHandler

import pytest

from tests.web import QuietHandler, WebServer, web_server


def fail(error):
    raise error


@pytest.mark.parametrize(("error", "is_printed"), [(ConnectionResetError, False), (ZeroDivisionError, True)])
def test_a_server_prints_its_own_faults_and_no_connection_that_a_client_cuts(capsys, error, is_printed):
    with WebServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        try:
            fail(error)
        except error:
            server.handle_error(None, ("127.0.0.1", 1))
    assert (error.__name__ in capsys.readouterr().err) == is_printed


def test_a_server_goes_on_after_a_client_cut_its_connection(capsys):
    class Handler(QuietHandler):
        def do_GET(self):
            self.send_response(204)
            self.end_headers()

    with web_server(Handler) as server:
        cut = socket.create_connection(server.server_address)
        cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        cut.close()
        with socket.create_connection(server.server_address) as asking:
            asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b" 204 " in asking.recv(1000)
    assert capsys.readouterr().err == ""
