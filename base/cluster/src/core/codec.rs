//! Bytes of everything that is logged, kept or sent: fields one behind the other, numbers little-endian, texts and lists
//! behind their counts (4 bytes), kinds in a byte.
//!
//! Always holds: reading takes memory in proportion to what was given, whatever a count says; bytes that are no such
//! thing, or go on behind it, are `None`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use replog::{GroupId, Index, NodeId, Term};

/// What has bytes.
pub(crate) trait Coded: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// Takes it off the front of `from`.
    fn take(from: &mut &[u8]) -> Option<Self>;

    fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// The whole of `from`.
    fn from_all(mut from: &[u8]) -> Option<Self> {
        Self::take(&mut from).filter(|_| from.is_empty())
    }
}

fn split<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (front, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(front)
}

macro_rules! coded_numbers {
    ($($kind:ty)*) => {
        $(impl Coded for $kind {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let bytes = split(from, size_of::<$kind>())?;
                bytes.try_into().ok().map(<$kind>::from_le_bytes)
            }
        })*
    };
}

macro_rules! coded_ids {
    ($($kind:ident)*) => {
        $(impl Coded for $kind {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                u64::take(from).map($kind)
            }
        })*
    };
}

/// A struct, its fields in this order.
macro_rules! coded_struct {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::core::codec::Coded for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                Some($name { $($field: $crate::core::codec::Coded::take(from)?),* })
            }
        }
    };
}

/// An enum: a byte for the kind, then what belongs to it.
macro_rules! coded_enum {
    ($name:ident { $($kind:literal = $variant:ident $(($($part:ident),*))? $({$($field:ident),*})?),* $(,)? }) => {
        impl $crate::core::codec::Coded for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant $(($($part),*))? $({$($field),*})? => {
                        out.push($kind);
                        $($($part.put(out);)*)?
                        $($($field.put(out);)*)?
                    })*
                }
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                match u8::take(from)? {
                    $($kind => {
                        $($(let $part = $crate::core::codec::Coded::take(from)?;)*)?
                        $($(let $field = $crate::core::codec::Coded::take(from)?;)*)?
                        Some($name::$variant $(($($part),*))? $({$($field),*})?)
                    })*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use {coded_enum, coded_struct};

coded_numbers!(u8 u32 u64);
coded_ids!(NodeId GroupId Index Term);

impl Coded for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    u32::try_from(bytes.len()).expect("bounded").put(out);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::take(from)? as usize;
    split(from, len)
}

impl Coded for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        String::from_utf8(take_bytes(from)?.to_vec()).ok()
    }
}

impl Coded for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        take_bytes(from).map(Bytes::copy_from_slice)
    }
}

impl<T: Coded> Coded for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|inner| inner.put(out));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        match bool::take(from)? {
            true => T::take(from).map(Some),
            false => Some(None),
        }
    }
}

impl<T: Coded> Coded for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).expect("bounded").put(out);
        self.iter().for_each(|inner| inner.put(out));
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        // Nothing is reserved: each element takes a byte at least.
        let count = u32::take(from)?;
        (0..count).map(|_| T::take(from)).collect()
    }
}

impl<K: Coded + Ord, V: Coded> Coded for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).expect("bounded").put(out);
        self.iter().for_each(|(key, value)| {
            key.put(out);
            value.put(out);
        });
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let count = u32::take(from)?;
        (0..count).map(|_| Some((K::take(from)?, V::take(from)?))).collect()
    }
}

impl<T: Coded> Coded for Arc<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        T::take(from).map(Arc::new)
    }
}

impl<A: Coded, B: Coded> Coded for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_without_end_takes_nothing() {
        assert_eq!(Vec::<u64>::from_all(&[0xFF; 20]), None);
        assert_eq!(Bytes::from_all(&[0xFF; 20]), None);
        assert_eq!(BTreeMap::<u64, u64>::from_all(&[0xFF; 4]), None);
        assert_eq!(String::from_all(&[1, 0, 0, 0, 0xFF]), None, "no text");
        assert_eq!(u8::from_all(&[1, 2]), None, "something behind it");
        assert_eq!(bool::from_all(&[2]), None);
        let list = vec![(1u64, Some(String::from("x"))), (2, None)];
        assert_eq!(Vec::from_all(&list.encoded()), Some(list));
    }
}
