"""Produces numbered messages with acks=all until told to stop or cut off, and reads them back (confluent-kafka).

write ADDRESS COUNT   prints `acknowledged N`: messages 0 to N-1 were acknowledged
check ADDRESS COUNT   fails unless the topic holds messages 0 to COUNT-1 first, in order, each once
"""
import sys
import time

import numbered
from confluent_kafka import Producer

TOPIC = "durability"


def write(address, count):
    acknowledged = []
    failed = []

    def delivered(error, message):
        if error is None:
            acknowledged.append(int(message.key()))
        else:
            failed.append(str(error))

    producer = Producer({
        "bootstrap.servers": address,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 1,
        "message.timeout.ms": 8000,
        "batch.num.messages": 100,
    })
    for number in range(count):
        while not failed:
            try:
                producer.produce(TOPIC, key=str(number), value=b"message %d" % number, partition=0, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        if failed:
            break
        producer.poll(0)
    deadline = time.monotonic() + 30
    while producer.flush(0.1) > 0 and time.monotonic() < deadline and not failed:
        pass
    if failed:
        print(f"cut off: {failed[0]}")
    # Deliveries of one partition come in order.
    assert acknowledged == list(range(len(acknowledged))), "acknowledged out of order"
    print(f"acknowledged {len(acknowledged)}", flush=True)


def check(address, count):
    numbered.read(address, TOPIC, count)
    print(f"all {count} there")


what, address, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
{"write": write, "check": check}[what](address, count)
