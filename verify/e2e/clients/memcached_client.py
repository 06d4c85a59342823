"""pymemcache against the cache: PORT."""
import sys
import time

from pymemcache.client.base import Client

client = Client(("127.0.0.1", int(sys.argv[1])), timeout=10)
assert client.set("a", b"1", noreply=False)
assert client.get("a") == b"1"
assert client.incr("a", 41) == 42
assert client.append("a", b"0") and client.get("a") == b"420"
assert not client.add("a", b"x", noreply=False) and client.replace("a", b"y", noreply=False)
value, cas = client.gets("a")
assert client.cas("a", b"z", cas) is True and client.cas("a", b"w", cas) is False
assert client.touch("a", 100, noreply=False)
many = {f"key{number}": b"x" * number for number in range(1, 2000)}
assert client.set_many(many, noreply=False) == []
assert client.get_many(list(many)) == many
assert client.delete("a", noreply=False) and client.get("a") is None
large = b"L" * (1024 * 1024 - 200)
assert client.set("large", large, noreply=False) and client.get("large") == large
assert client.set("short", b"lived", expire=1, noreply=False)
deadline = time.monotonic() + 10
while client.get("short") is not None:
    assert time.monotonic() < deadline
    time.sleep(0.1)
assert int(client.stats()[b"curr_items"]) >= 2000
assert client.flush_all(noreply=False) and client.get("key1") is None
