//! The Fetch response (versions 4–12), written as segments so that records are never copied.
//!
//! No fetch session is ever opened: the session id is 0, which clients take as "send full requests"
//! (KIP-227). Aborted transactions are null: there are none.

use bytes::{BufMut, Bytes, BytesMut};

use super::StrBytes;

/// One partition's answer.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    /// Its index.
    pub index: i32,
    /// A Kafka error code, 0 for none.
    pub error_code: i16,
    /// One past the last offset that may be read; −1 when unknown.
    pub high_watermark: i64,
    /// The first offset still stored; −1 when unknown.
    pub log_start_offset: i64,
    /// Whole record batches.
    pub records: Vec<Bytes>,
}

impl Partition {
    /// Bytes of the records.
    #[must_use]
    pub fn records_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// One topic's answer.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// Its name.
    pub name: StrBytes,
    /// Its partitions, in the order of the request.
    pub partitions: Vec<Partition>,
}

/// The whole response with its length prefix, in pieces to be sent in order.
///
/// `error_code` is the one above all partitions (from version 7).
#[must_use]
pub fn encode(correlation_id: i32, version: i16, error_code: i16, topics: &[Topic]) -> Vec<Bytes> {
    debug_assert!((4..=12).contains(&version));
    let mut out = Pieces { pieces: Vec::new(), head: BytesMut::with_capacity(256), flexible: version >= 12 };
    out.head.put_i32(0);
    out.head.put_i32(correlation_id);
    out.tags();
    out.head.put_i32(0); // throttle_time_ms
    if version >= 7 {
        out.head.put_i16(error_code);
        out.head.put_i32(0); // session_id
    }
    out.count(topics.len());
    for topic in topics {
        out.text(&topic.name);
        out.count(topic.partitions.len());
        for partition in &topic.partitions {
            out.partition(version, partition);
        }
        out.tags();
    }
    out.tags();
    out.finish()
}

struct Pieces {
    pieces: Vec<Bytes>,
    head: BytesMut,
    flexible: bool,
}

impl Pieces {
    fn partition(&mut self, version: i16, partition: &Partition) {
        self.head.put_i32(partition.index);
        self.head.put_i16(partition.error_code);
        self.head.put_i64(partition.high_watermark);
        self.head.put_i64(partition.high_watermark); // last_stable_offset
        if version >= 5 {
            self.head.put_i64(partition.log_start_offset);
        }
        if self.flexible {
            self.head.put_u8(0);
        } else {
            self.head.put_i32(-1);
        } // aborted_transactions
        if version >= 11 {
            self.head.put_i32(-1); // preferred_read_replica
        }
        let bytes = u32::try_from(partition.records_bytes()).expect("an answer is below 4 GiB");
        if self.flexible {
            self.uvarint(bytes + 1);
        } else {
            self.head.put_u32(bytes);
        }
        for records in partition.records.iter().filter(|r| !r.is_empty()) {
            self.pieces.push(self.head.split().freeze());
            self.pieces.push(records.clone());
        }
        self.tags();
    }

    fn count(&mut self, count: usize) {
        let count = u32::try_from(count).expect("a count fits 32 bits");
        if self.flexible {
            self.uvarint(count + 1);
        } else {
            self.head.put_u32(count);
        }
    }

    fn text(&mut self, text: &str) {
        if self.flexible {
            self.uvarint(u32::try_from(text.len()).expect("a name is short") + 1);
        } else {
            self.head.put_u16(u16::try_from(text.len()).expect("a name is short"));
        }
        self.head.put_slice(text.as_bytes());
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.head.put_u8((value as u8) | 0x80);
            value >>= 7;
        }
        self.head.put_u8(value as u8);
    }

    fn tags(&mut self) {
        if self.flexible {
            self.head.put_u8(0);
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.pieces.push(self.head.freeze());
        let len: usize = self.pieces.iter().map(Bytes::len).sum::<usize>() - 4;
        let len = u32::try_from(len).expect("an answer is below 4 GiB");
        let mut first = BytesMut::from(&self.pieces[0][..]);
        first[..4].copy_from_slice(&len.to_be_bytes());
        self.pieces[0] = first.freeze();
        self.pieces.retain(|piece| !piece.is_empty());
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::message::decode_response;
    use crate::kafka::messages::FetchResponse;

    #[test]
    fn every_version_decodes_to_what_was_said() {
        let topics = [Topic {
            name: StrBytes::from_static_str("t"),
            partitions: vec![
                Partition {
                    index: 3,
                    error_code: 0,
                    high_watermark: 10,
                    log_start_offset: 2,
                    records: vec![Bytes::from_static(b"first"), Bytes::new(), Bytes::from_static(b"second")],
                },
                Partition {
                    index: 4,
                    error_code: 1,
                    high_watermark: -1,
                    log_start_offset: -1,
                    records: vec![],
                },
            ],
        }];
        for version in 4..=12 {
            let whole = encode(77, version, 0, &topics).concat();
            assert_eq!(whole.len() - 4, u32::from_be_bytes(whole[..4].try_into().unwrap()) as usize);
            let frame = Bytes::from(whole).slice(4..);
            let (correlation_id, response) = decode_response::<FetchResponse>(version, frame).unwrap();
            assert_eq!(correlation_id, 77);
            let partitions = &response.responses[0].partitions;
            assert_eq!(partitions[0].records.as_deref(), Some(&b"firstsecond"[..]), "version {version}");
            assert_eq!((partitions[0].high_watermark, partitions[0].last_stable_offset), (10, 10));
            assert_eq!(partitions[0].log_start_offset, if version >= 5 { 2 } else { -1 });
            assert_eq!((partitions[1].partition_index, partitions[1].error_code), (4, 1));
            assert_eq!(partitions[1].records.as_deref(), Some(&b""[..]));
        }
    }
}
