"""Accept TCP connections at a port and close them, for ever: ``accept.py PORT``. Prints a line when it listens."""

import socket
import sys

if __name__ == "__main__":
    with socket.create_server(("", int(sys.argv[1])), backlog=1024) as server:
        print("listening", flush=True)
        while True:
            connection, _ = server.accept()
            connection.close()
