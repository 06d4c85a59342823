"""Bad input to a TCP port: HOST PORT. Fails if the peer neither answers nor closes where it must.

Random bytes, a mebibyte of one letter, and the protocol's own request cut in half, then silence.
"""
import random
import socket
import sys

address = (sys.argv[1], int(sys.argv[2]))
halves = [half.encode().decode("unicode_escape").encode("latin-1") for half in sys.argv[3:]]


def talk(data, patience):
    """Sends all of `data` as far as the peer takes it; gives what came back and whether the peer closed."""
    got = b""
    with socket.create_connection(address, timeout=patience) as peer:
        try:
            peer.sendall(data)
        except (ConnectionError, TimeoutError):
            pass  # closed early, or not taken: both are fine
        try:
            while len(got) < 1 << 20:
                more = peer.recv(65536)
                if not more:
                    return got, True
                got += more
        except TimeoutError:
            return got, False
        except ConnectionError:
            return got, True
    return got, False


random.seed(1)
for size in (1, 7, 100, 4096, 100_000):
    talk(random.randbytes(size), 0.3)
for letter in (b"A", b"\0", b"\xff", b"*", b"\n"):
    talk(letter * (1 << 20), 1.0)
# Many at once that send half a request and then nothing.
silent = []
for _ in range(100):
    for half in halves:
        peer = socket.create_connection(address, timeout=5)
        peer.sendall(half)
        silent.append(peer)
for peer in silent:
    peer.close()
print("survived?")
