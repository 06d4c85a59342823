//! `wire::kafka`: frames however they are cut, request heads and bodies, record batches.

use wire::kafka::Request;
use wire::kafka::batch::{self, Records};
use wire::kafka::frame::FrameReader;
use wire::kafka::message;
use wire::kafka::messages::*;

/// As a broker that is tight with memory would set it, in bytes.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Octets of a batch before its checksum covers it, and where its length and magic stand
/// (<https://kafka.apache.org/documentation/#recordbatch>).
const BATCH_LENGTH_AT: usize = 8;
const BATCH_MAGIC_AT: usize = 16;

/// Reads `data` as a connection's bytes, whole and in pieces, each frame as a request; then as a record batch.
pub fn run(data: &[u8]) {
    let (sizes, input) = crate::pieces::take_cuts(data);
    let whole = crate::bounded(input.len(), 64, || frames(input, &[]));
    let pieces = crate::bounded(input.len(), 64, || frames(input, sizes));
    assert_eq!(whole, pieces, "cut by {sizes:?}");
    for frame in whole.0 {
        request(frame);
    }
    crate::bounded(input.len(), 64, || sealed_batch(input));
    crate::bounded(input.len(), 64, || built_batch(input));
}

fn frames(input: &[u8], sizes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut reader = FrameReader::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    for piece in crate::pieces::cut(input, sizes) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
        assert!(reader.buffered_bytes() <= FRAME_BYTES_MAX + 4 + 256.max(piece.len()));
    }
    (frames, false)
}

/// A request that decodes costs bounded memory, and is the same once written and read again.
fn request(frame: Vec<u8>) {
    let Ok((key, version, _)) = message::peek(&frame) else { return };
    let Ok(key) = ApiKey::try_from(key) else { return };
    macro_rules! dispatch {
        ($($name:ident => $request:ty),* $(,)?) => {
            match key {
                $(ApiKey::$name => body::<$request>(version, frame),)*
                _ => {}
            }
        };
    }
    dispatch! {
        ApiVersions => ApiVersionsRequest,
        CreatePartitions => CreatePartitionsRequest,
        CreateTopics => CreateTopicsRequest,
        DeleteGroups => DeleteGroupsRequest,
        DeleteRecords => DeleteRecordsRequest,
        DeleteTopics => DeleteTopicsRequest,
        DescribeCluster => DescribeClusterRequest,
        DescribeConfigs => DescribeConfigsRequest,
        DescribeGroups => DescribeGroupsRequest,
        Fetch => FetchRequest,
        FindCoordinator => FindCoordinatorRequest,
        Heartbeat => HeartbeatRequest,
        IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
        InitProducerId => InitProducerIdRequest,
        JoinGroup => JoinGroupRequest,
        LeaveGroup => LeaveGroupRequest,
        ListGroups => ListGroupsRequest,
        ListOffsets => ListOffsetsRequest,
        Metadata => MetadataRequest,
        OffsetCommit => OffsetCommitRequest,
        OffsetDelete => OffsetDeleteRequest,
        OffsetFetch => OffsetFetchRequest,
        OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
        Produce => ProduceRequest,
        SyncGroup => SyncGroupRequest,
    }
}

fn body<R: Request + PartialEq + std::fmt::Debug>(version: i16, frame: Vec<u8>) {
    let bytes = frame.len();
    let decoded = crate::bounded(bytes, 512, || {
        let mut frame = frame.into();
        message::take_head(&mut frame, R::header_version(version) >= 2).ok()?;
        message::decode::<R>(version, frame).ok()
    });
    let Some(decoded) = decoded else { return };
    let mut again = Vec::new();
    if decoded.encode(&mut again, version).is_err() {
        return; // It holds a field that this version cannot carry back, an empty one as null for one.
    }
    let again = message::decode::<R>(version, again.into()).expect("what was written is read");
    assert_eq!(again, decoded);
}

/// `input` with a length, a magic and a checksum that are right: what the checks behind them let pass can be walked.
fn sealed_batch(input: &[u8]) {
    let _ = batch::verify(input);
    if input.len() < batch::HEADER_BYTES {
        return;
    }
    let mut sealed = input.to_vec();
    let length = (input.len() - batch::LENGTH_PREFIX_BYTES) as u32;
    sealed[BATCH_LENGTH_AT..BATCH_LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    sealed[BATCH_MAGIC_AT] = 2;
    batch::seal(&mut sealed);
    let Ok(header) = batch::verify_produced(&sealed) else { return };
    let before = header.last_offset() - header.base_offset;
    if !header.is_compressed() {
        assert!(Records::new(&sealed).all(|record| record.is_ok()), "verified records can be walked");
    }
    batch::set_base_offset(&mut sealed, 1 << 40);
    batch::set_leader_epoch(&mut sealed, 7);
    let moved = batch::verify(&sealed).expect("base offset and epoch are not under the checksum");
    assert_eq!((moved.base_offset, moved.last_offset() - moved.base_offset), (1 << 40, before));
}

/// Values of `input`'s lines make a batch that adds up.
fn built_batch(input: &[u8]) {
    let records: Vec<(i64, &[u8])> =
        input.split(|&byte| byte == b'\n').map(|line| (line.len() as i64, line)).collect();
    let built = batch::build(&records, None);
    let header = batch::verify_produced(&built).expect("what is built is right");
    assert_eq!(header.last_offset(), records.len() as i64 - 1);
    let deltas = Records::new(&built).map(|record| record.expect("each is right").offset_delta);
    assert!(deltas.eq(0..records.len() as i32));
}
