"""Writes numbered keys one by one through a cluster client that finds its way by itself, and checks them afterwards.

write PORT COUNT   prints `acknowledged N` after each hundred: SETs 0 to N-1 were answered OK
check PORT COUNT   fails unless keys 0 to COUNT-1 have their values, at the masters
replica PORT COUNT the same, as a client that may be sent to replicas
"""
import sys
import time

import redis
from redis.cluster import ClusterNode, RedisCluster

# What a client meets while a leader is replaced. A SET of the same value may be made twice.
PASSING = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.ClusterError,
           redis.exceptions.RedisClusterException)


def value(number):
    return f"value of {number} " * (1 + number % 7)


def with_patience(what):
    deadline = time.monotonic() + 60
    while True:
        try:
            return what()
        except PASSING as error:
            if time.monotonic() > deadline:
                sys.exit(f"never answered: {error!r}")
            time.sleep(0.05)


def write(client, count):
    for number in range(count):
        assert with_patience(lambda: client.set(f"key:{number}", value(number))) is True
        if number % 100 == 99:
            print(f"acknowledged {number + 1}", flush=True)


def check(client, count):
    for number in range(count):
        got = with_patience(lambda: client.get(f"key:{number}"))
        if got != value(number):
            sys.exit(f"key {number} of {count}: {got!r}")
    print(f"all {count} there")


what, ports, count = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
nodes = [ClusterNode("127.0.0.1", int(port)) for port in ports]
client = with_patience(
    lambda: RedisCluster(startup_nodes=nodes, decode_responses=True, socket_timeout=5,
                         read_from_replicas=what == "replica"))
{"write": write, "check": check, "replica": check}[what](client, count)
