"""confluent-kafka (librdkafka) against the broker: ADDRESS. Two members of a group share a topic, one leaves."""
import sys
import time

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

address = sys.argv[1]
admin = AdminClient({"bootstrap.servers": address})
for future in admin.create_topics([NewTopic("confluent", num_partitions=4, replication_factor=1)]).values():
    future.result(20)


def produce(count, start=0):
    failed = []
    producer = Producer({"bootstrap.servers": address, "acks": "all", "compression.type": "lz4"})
    for number in range(start, start + count):
        producer.produce("confluent", key=str(number), value=b"x" * 100, on_delivery=lambda e, m: e and failed.append(e))
        producer.poll(0)
    assert producer.flush(30) == 0 and not failed, failed


def member():
    consumer = Consumer({
        "bootstrap.servers": address, "group.id": "confluent-group", "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "session.timeout.ms": 6000,
    })
    consumer.subscribe(["confluent"])
    return consumer


def drain(consumers, seen, count):
    deadline = time.monotonic() + 60
    while len(seen) < count:
        assert time.monotonic() < deadline, f"{len(seen)} of {count}"
        for consumer in consumers:
            message = consumer.poll(0.05)
            if message is not None and not message.error():
                seen.add(int(message.key()))
                consumer.commit(message, asynchronous=True)


produce(2000)
first, second = member(), member()
seen = set()
drain([first, second], seen, 2000)
deadline = time.monotonic() + 60
while not (len(first.assignment()) == 2 and len(second.assignment()) == 2):
    assert time.monotonic() < deadline, (first.assignment(), second.assignment())
    first.poll(0.1), second.poll(0.1)
second.close()
produce(2000, 2000)
drain([first], seen, 4000)
assert len(first.assignment()) == 4
first.close()
for future in admin.delete_topics(["confluent"]).values():
    future.result(20)
