//! A photo as the stores hold it: its id, its keys in the database, its record, its job in the queue.
//!
//! The keys of one photo share a hash tag, hence a slot and a shard. The record is written last when a photo comes
//! in and when its result is done, and deleted first: what it says is there, is there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The topic of the jobs.
pub const JOBS_TOPIC: &str = "photo-jobs";
/// The consumer group of the workers.
pub const WORKERS_GROUP: &str = "photo-workers";
/// The largest original or result, in bytes: a value of the database (16 MiB) less room for its command and entry.
pub const PHOTO_BYTES_MAX: usize = 15 << 20;

/// 128 random bits: knowing the id is what it takes to see a photo.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PhotoId(u128);

impl PhotoId {
    /// The id of these random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(bits)
    }

    pub(crate) fn record_key(self) -> String {
        format!("photo:{{{self}}}:record")
    }

    pub(crate) fn original_key(self) -> String {
        format!("photo:{{{self}}}:original")
    }

    pub(crate) fn result_key(self) -> String {
        format!("photo:{{{self}}}:result")
    }

    /// How often a worker began on it.
    pub(crate) fn attempts_key(self) -> String {
        format!("photo:{{{self}}}:attempts")
    }
}

impl fmt::Display for PhotoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for PhotoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhotoId({self})")
    }
}

/// Not 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPhotoId;

impl FromStr for PhotoId {
    type Err = InvalidPhotoId;

    fn from_str(text: &str) -> Result<Self, InvalidPhotoId> {
        // One spelling each, so that one photo has one URL.
        let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(InvalidPhotoId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidPhotoId)
    }
}

/// What a picture is: its media type and size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Picture {
    pub content_type: String,
    pub bytes: usize,
    pub width: u32,
    pub height: u32,
}

/// The photo's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What is to be done, in the grammar of [`crate::operations`].
    pub ops: String,
    /// The original.
    pub original: Picture,
    /// How far it is.
    #[serde(flatten)]
    pub state: State,
}

/// How far a photo is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Stored; the job is in the queue or in a worker's hand.
    Queued,
    /// The result is stored.
    Done {
        /// The result.
        result: Picture,
        /// A strong validator of the result, without quotes.
        etag: String,
    },
    /// Can't be done, ever.
    Failed {
        /// Why, for the one who sent it.
        reason: String,
    },
}

/// A job of [`JOBS_TOPIC`]; its key is the photo's id. All else is in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The photo's id.
    pub photo: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = PhotoId::from_random(0xabc);
        assert_eq!(id.to_string(), "00000000000000000000000000000abc");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "abc", "00000000000000000000000000000ABC", "+0000000000000000000000000000abc"] {
            assert_eq!(text.parse::<PhotoId>(), Err(InvalidPhotoId), "{text}");
        }
    }

    #[test]
    fn the_record_is_flat_json() {
        let picture = Picture { content_type: "image/png".into(), bytes: 9, width: 2, height: 1 };
        let record = Record {
            ops: "blur:1".into(),
            original: picture.clone(),
            state: State::Failed { reason: "why".into() },
        };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            json,
            r#"{"ops":"blur:1","original":{"contentType":"image/png","bytes":9,"width":2,"height":1},"state":"failed","reason":"why"}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        let done = Record { state: State::Done { result: picture, etag: "e".into() }, ..record };
        assert_eq!(serde_json::from_str::<Record>(&serde_json::to_string(&done).unwrap()).unwrap(), done);
    }
}
