"""kafka-python against the broker: ADDRESS."""
import sys

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

address = sys.argv[1]
admin = KafkaAdminClient(bootstrap_servers=address)
admin.create_topics([NewTopic("kafka-python", num_partitions=3, replication_factor=1)])
assert "kafka-python" in admin.list_topics()

producer = KafkaProducer(bootstrap_servers=address, acks="all")
sent = [producer.send("kafka-python", key=b"%d" % number, value=b"v" * (number % 300)) for number in range(3000)]
producer.flush(30)
assert all(future.succeeded() for future in sent)

consumer = KafkaConsumer(
    "kafka-python", bootstrap_servers=address, group_id="kafka-python-group", auto_offset_reset="earliest",
    enable_auto_commit=False, consumer_timeout_ms=15000,
)
seen = set()
for message in consumer:
    seen.add(int(message.key))
    if len(seen) == 3000:
        break
assert seen == set(range(3000)), len(seen)
consumer.commit()
partitions = [TopicPartition("kafka-python", number) for number in range(3)]
ends = consumer.end_offsets(partitions)
assert sum(ends.values()) == 3000 and all(consumer.committed(partition) == ends[partition] for partition in partitions)
consumer.close()
admin.delete_topics(["kafka-python"])
assert "kafka-python" not in admin.list_topics()
