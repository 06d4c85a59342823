"""Writes numbered keys one by one until told to stop or cut off, and checks them afterwards.

write PORT COUNT   prints `acknowledged N`: SETs 0 to N-1 were answered OK
check PORT COUNT   fails unless keys 0 to COUNT-1 have their values
"""
import sys

import redis


def value(number):
    return f"value of {number} " * (1 + number % 7)


def write(client, count):
    acknowledged = 0
    try:
        for number in range(count):
            assert client.set(f"key:{number}", value(number)) is True
            acknowledged += 1
    except redis.exceptions.ConnectionError as error:
        print(f"cut off: {error}")
    print(f"acknowledged {acknowledged}", flush=True)


def check(client, count):
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        with client.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.get(f"key:{number}")
            for number, got in zip(numbers, pipe.execute()):
                if got != value(number):
                    sys.exit(f"key {number} of {count}: {got!r}")
    print(f"all {count} there")


what, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# No retries: an answer that was not an OK must stay unknown.
retry = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
client = redis.Redis(port=port, decode_responses=True, socket_timeout=20, retry=retry)
{"write": write, "check": check}[what](client, count)
