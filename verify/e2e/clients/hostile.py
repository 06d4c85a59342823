"""Bad input to a TCP port: HOST PORT HALF…  Random bytes, a mebibyte of one letter, and requests of the port's own protocol
cut in half, then silence.

Fails if the peer takes a mebibyte that is none of its protocol and neither answers nor closes.
"""
import random
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

PATIENCE_S = 20

address = (sys.argv[1], int(sys.argv[2]))
halves = [half.encode().decode("unicode_escape").encode("latin-1") for half in sys.argv[3:]]


def reacts(data, patience):
    """Sends `data` as far as the peer takes it; says whether the peer answers or closes."""
    with socket.create_connection(address, timeout=PATIENCE_S) as peer:
        peer.settimeout(patience)
        try:
            peer.sendall(data)
        except (ConnectionError, TimeoutError):
            pass  # closed early, or not taken: both are fine
        try:
            peer.recv(65536)
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


random.seed(1)
noise = [random.randbytes(size) for size in (1, 7, 100, 4096, 100_000)]
letters = [letter * (1 << 20) for letter in (b"A", b"\0", b"\xff", b"*")]
with ThreadPoolExecutor() as threads:
    # Noise may be the beginning of something, and empty lines are nothing to some protocols.
    ignored = threads.map(lambda data: reacts(data, 0.3), [*noise, b"\n" * (1 << 20)])
    for letter, reacted in zip(letters, threads.map(lambda data: reacts(data, PATIENCE_S), letters)):
        assert reacted, f"a mebibyte of {letter[:1]} was neither answered nor refused"
    list(ignored)
# Many at once that send half a request and then nothing.
silent = []
for _ in range(100):
    for half in halves:
        peer = socket.create_connection(address, timeout=PATIENCE_S)
        peer.sendall(half)
        silent.append(peer)
for peer in silent:
    peer.close()
