"""Produces numbered messages to a cluster whose leaders die meanwhile, and reads them back.

write CLIENT ADDRESSES FILE   produces, acks=all and idempotent, until FILE is there; prints `acknowledged N`
check ADDRESSES COUNT         fails unless the topic holds messages 0 to COUNT-1 first, in order, each once
CLIENT is confluent-kafka or kafka-python.
"""
import os
import sys

import numbered

TOPIC = "cluster"


def write_confluent(addresses, file):
    from confluent_kafka import Producer

    acknowledged = []

    def delivered(error, message):
        assert error is None, f"message {message.key()}: {error}"
        acknowledged.append(int(message.key()))

    producer = Producer({
        "bootstrap.servers": addresses,
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 1,
        "message.timeout.ms": 60000,
        "batch.num.messages": 100,
    })
    number = 0
    while not os.path.exists(file):
        try:
            producer.produce(TOPIC, key=str(number), value=b"message %d" % number, partition=0, on_delivery=delivered)
            number += 1
        except BufferError:
            producer.poll(0.01)
        producer.poll(0)
        # So that acknowledgements, not queues, are what is under way.
        while number - len(acknowledged) > 2000:
            producer.poll(0.01)
    assert producer.flush(60) == 0, "some were never delivered"
    assert acknowledged == list(range(number)), "acknowledged out of order"
    print(f"acknowledged {number}", flush=True)


def write_python(addresses, file):
    from kafka import KafkaProducer

    producer = KafkaProducer(
        bootstrap_servers=addresses.split(","),
        acks="all",
        enable_idempotence=True,
        retries=100000,
        delivery_timeout_ms=60000,
        request_timeout_ms=5000,
        linger_ms=1,
    )
    number = 0
    waiting = []
    while not os.path.exists(file):
        key, value = str(number).encode(), b"message %d" % number
        waiting.append(producer.send(TOPIC, key=key, value=value, partition=0))
        number += 1
        if len(waiting) > 2000:
            for sent in waiting[:1000]:
                sent.get(60)
            del waiting[:1000]
    for sent in waiting:
        sent.get(60)
    print(f"acknowledged {number}", flush=True)


def check(addresses, count):
    # Every message was acknowledged, so there are no others.
    seen = numbered.read(addresses, TOPIC, count)
    if seen != count:
        sys.exit(f"{seen} messages, {count} were acknowledged")
    print(f"all {count} there")


if sys.argv[1] == "check":
    check(sys.argv[2], int(sys.argv[3]))
else:
    {"confluent-kafka": write_confluent, "kafka-python": write_python}[sys.argv[2]](sys.argv[3], sys.argv[4])
