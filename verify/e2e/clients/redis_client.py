"""redis-py against the database: PORT of each shard. The cluster client, and plain connections that are redirected."""
import sys

import redis
from redis.cluster import ClusterNode, RedisCluster

ports = [int(port) for port in sys.argv[1:]]
for protocol in (2, 3):
    cluster = RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", ports[0])], decode_responses=True, protocol=protocol, socket_timeout=20
    )
    assert {node.port for node in cluster.get_primaries()} == set(ports)
    for number in range(300):
        assert cluster.set(f"k{number}", number, ex=1000)
    assert [cluster.get(f"k{number}") for number in range(300)] == [str(number) for number in range(300)]
    assert cluster.incrby("counter", 5) >= 5 and cluster.delete("counter") == 1
    assert cluster.mset({"{tag}a": 1, "{tag}b": 2}) and cluster.mget("{tag}a", "{tag}b") == ["1", "2"]
    assert cluster.hset("hash", mapping={"f": "v", "g": "w"}) in (1, 2)
    assert cluster.hgetall("hash") == {"f": "v", "g": "w"} and cluster.hdel("hash", "g") == 1
    assert 0 < cluster.ttl("k1") <= 1000 and cluster.persist("k1") and cluster.ttl("k1") == -1
    assert set(cluster.scan_iter(match="k*", count=50)) >= {f"k{number}" for number in range(300)}
    assert cluster.set("k1", "no", nx=True) is None and cluster.set("k1", "new", xx=True, get=True) == "1"
    pipe = cluster.pipeline()
    for number in range(1000):
        pipe.set(f"p{number}", number)
    assert all(pipe.execute())
    cluster.close()

shards = [redis.Redis(port=port, decode_responses=True) for port in ports]
moved = 0
for shard in shards:
    try:
        shard.get("somewhere")
    except redis.exceptions.ResponseError as error:
        assert type(error).__name__ == "MovedError" or str(error).startswith("MOVED"), error
        moved += 1
assert moved == len(ports) - 1, "one shard has the key, the others say where it is"
assert shards[0].info("server")["redis_version"]
for wrong in (("SET", "k"), ("NOSUCH",), ("INCR", "hash{x}", "y")):
    try:
        shards[0].execute_command(*wrong)
        sys.exit(f"{wrong} was taken")
    except redis.exceptions.ResponseError:
        pass
