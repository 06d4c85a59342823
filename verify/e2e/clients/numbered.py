"""Reads numbered messages back (confluent-kafka)."""
import sys
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition


def read(addresses, topic, count):
    """How many messages partition 0 holds; ends the program unless they are 0, 1, …, in order, each once, and `count` at least."""
    consumer = Consumer({
        "bootstrap.servers": addresses,
        "group.id": "nobody",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    })
    consumer.assign([TopicPartition(topic, 0, 0)])
    seen = 0
    deadline = time.monotonic() + 60
    while True:
        if time.monotonic() > deadline:
            sys.exit(f"only {seen} of {count} messages within 60 s")
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            if message.error().code() == KafkaError._PARTITION_EOF:
                break
            sys.exit(str(message.error()))
        if int(message.key()) != seen or message.value() != b"message %d" % seen:
            sys.exit(f"message {seen} is {message.key()!r}: {message.value()!r}")
        seen += 1
    consumer.close()
    if seen < count:
        sys.exit(f"{seen} messages, {count} were acknowledged")
    return seen
