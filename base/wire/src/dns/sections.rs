//! The records of a response: what follows the question, written with name compression (RFC 1035 §4.1.4).
//!
//! A server prepares these octets once and sends them after many questions. What always holds:
//! - Pointers go backwards, into the question's name or an earlier record, below offset [`POINTER_TARGET_MAX`].
//! - `moving` lists every pointer except those that stand for the whole question name. When the same records are sent after
//!   a question whose name is longer by d octets in front, those pointers grow by d and all is right again.

use std::collections::HashMap;

use super::name::suffixes;
use super::{HEADER_BYTES, MESSAGE_BYTES_MAX, Name, OPT_BYTES, rdata};

/// The last offset that is pointed at. Fourteen bits reach 16,383; the margin is for a question name longer than the one
/// that was compiled for.
pub const POINTER_TARGET_MAX: usize = 0x3fff - super::name::NAME_BYTES_MAX;

/// Which section a record goes to. Records are written in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who is responsible: the SOA of a negative answer, the NS of a referral.
    Authority,
    /// Addresses that save a question.
    Additional,
}

/// Whose record it is.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// The name in the question, whatever it is: a pointer to it.
    Question,
    /// This name.
    Name(&'a Name),
}

/// The records would not fit the longest message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the records of one answer take more than the 65,535 octets of a DNS message")]
pub struct TooLong;

/// Finished records.
#[derive(Debug, Clone, Default)]
pub struct Body {
    /// The octets, to be put right behind the question.
    pub bytes: Vec<u8>,
    /// How many records each section has.
    pub counts: [u16; 3],
    /// Where the additional section begins in `bytes`.
    pub additional_at: usize,
    /// Where the pointers are in `bytes` that move with the question.
    pub moving: Vec<u16>,
}

/// Writes records behind a question.
#[derive(Debug)]
pub struct Sections {
    body: Body,
    /// Where the body begins in the message.
    base: usize,
    section: Section,
    /// Lower-case names written so far, and where.
    known: HashMap<Vec<u8>, u16>,
}

impl Sections {
    /// Begins behind a question for `question`. With `whole_name_varies` (a wildcard's answer, whose question will differ in
    /// its first labels) record data never points at the whole of it, only at its parents.
    pub fn new(question: &Name, whole_name_varies: bool) -> Sections {
        let mut known = HashMap::new();
        let mut at = HEADER_BYTES;
        for (i, suffix) in suffixes(question.as_wire()).enumerate() {
            if suffix.len() > 1 && !(i == 0 && whole_name_varies) {
                known.insert(suffix.to_ascii_lowercase(), at as u16);
            }
            at += 1 + usize::from(suffix[0]);
        }
        let base = HEADER_BYTES + question.as_wire().len() + 4;
        Sections { body: Body::default(), base, section: Section::Answer, known }
    }

    /// Adds a record; `data` is uncompressed. Gives where its data begins in the body.
    ///
    /// # Panics
    /// When an earlier section is already closed, or `data` is not of the form of `kind`: both are the caller's to keep.
    pub fn push(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        kind: u16,
        class: u16,
        ttl: u32,
        data: &[u8],
    ) -> Result<usize, TooLong> {
        assert!(section >= self.section, "records are written section by section");
        self.section = section;
        match owner {
            Owner::Question => self.body.bytes.extend_from_slice(&[0xc0, HEADER_BYTES as u8]),
            Owner::Name(name) => self.write_name(name.as_wire(), true),
        }
        self.body.bytes.extend_from_slice(&kind.to_be_bytes());
        self.body.bytes.extend_from_slice(&class.to_be_bytes());
        self.body.bytes.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.body.bytes.len();
        self.body.bytes.extend_from_slice(&[0, 0]);

        let parts = rdata::split(kind, data).expect("record data is checked when it is read");
        self.body.bytes.extend_from_slice(parts.head);
        for name in [parts.first, parts.second] {
            if !name.is_empty() {
                self.write_name(name, parts.compressible);
            }
        }
        self.body.bytes.extend_from_slice(parts.tail);

        let data_at = length_at + 2;
        let length = self.body.bytes.len() - data_at;
        if self.base + super::name::NAME_BYTES_MAX + self.body.bytes.len() + OPT_BYTES > MESSAGE_BYTES_MAX {
            return Err(TooLong);
        }
        self.body.bytes[length_at..data_at].copy_from_slice(&(length as u16).to_be_bytes());
        self.body.counts[section as usize] += 1;
        if section < Section::Additional {
            self.body.additional_at = self.body.bytes.len();
        }
        Ok(data_at)
    }

    /// Ends the records.
    pub fn finish(self) -> Body {
        self.body
    }

    fn write_name(&mut self, wire: &[u8], compress: bool) {
        for suffix in suffixes(wire) {
            if suffix.len() == 1 {
                break;
            }
            let here = self.base + self.body.bytes.len();
            let lower = suffix.to_ascii_lowercase();
            match self.known.get(&lower) {
                Some(&target) if compress => {
                    self.body.moving.push(self.body.bytes.len() as u16);
                    self.body.bytes.extend_from_slice(&(0xc000 | target).to_be_bytes());
                    return;
                }
                Some(_) => {}
                None if here <= POINTER_TARGET_MAX => {
                    self.known.insert(lower, here as u16);
                }
                None => {}
            }
            self.body.bytes.extend_from_slice(&suffix[..1 + usize::from(suffix[0])]);
        }
        self.body.bytes.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::code::{class, rtype};
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_absolute_text(text).unwrap()
    }

    fn push(sections: &mut Sections, section: Section, owner: Owner<'_>, kind: u16, data: &[u8]) {
        sections.push(section, owner, kind, class::IN, 60, data).unwrap();
    }

    #[test]
    fn rfc1035_4_1_4_names_point_at_the_question_and_at_each_other() {
        let mut sections = Sections::new(&name("example.com"), false);
        let ns = name("NS1.example.com");
        push(&mut sections, Section::Answer, Owner::Question, rtype::NS, ns.as_wire());
        push(&mut sections, Section::Additional, Owner::Name(&ns), rtype::A, &[192, 0, 2, 1]);
        let body = sections.finish();
        assert_eq!(body.counts, [1, 0, 1]);
        let expected = [
            b"\xc0\x0c\x00\x02\x00\x01\x00\x00\x00\x3c\x00\x06\x03NS1\xc0\x0c".as_slice(),
            b"\xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01",
        ];
        assert_eq!(body.bytes, expected.concat());
        assert_eq!(body.additional_at, expected[0].len());
        assert_eq!(body.moving, [16, 18]);
    }

    #[test]
    fn rfc3597_4_names_of_newer_types_are_whole() {
        let mut sections = Sections::new(&name("example.com"), false);
        let target = [&[0, 1, 0, 2, 0, 80][..], name("www.example.com").as_wire()].concat();
        push(&mut sections, Section::Answer, Owner::Question, rtype::SRV, &target);
        let body = sections.finish();
        assert!(body.bytes.ends_with(&target));
        assert!(body.moving.is_empty());
    }

    #[test]
    fn no_pointer_goes_beyond_what_fourteen_bits_reach() {
        let mut sections = Sections::new(&name("example.com"), false);
        for i in 0..2000 {
            push(
                &mut sections,
                Section::Answer,
                Owner::Question,
                rtype::NS,
                name(&format!("n{i}.example.org")).as_wire(),
            );
        }
        let last = name("n1999.example.org");
        push(&mut sections, Section::Additional, Owner::Name(&last), rtype::A, &[192, 0, 2, 1]);
        let body = sections.finish();
        assert!(body.bytes.len() > 0x4000);
        for &at in &body.moving {
            let at = usize::from(at);
            let target = usize::from(u16::from_be_bytes([body.bytes[at], body.bytes[at + 1]]) & 0x3fff);
            assert!(target <= POINTER_TARGET_MAX);
        }
    }

    #[test]
    fn an_answer_beyond_a_message_is_an_error() {
        let mut sections = Sections::new(&name("example.com"), false);
        let data = vec![0; 60_000];
        push(&mut sections, Section::Answer, Owner::Question, rtype::TXT, &data);
        assert_eq!(
            sections.push(Section::Answer, Owner::Question, rtype::TXT, class::IN, 0, &data),
            Err(TooLong)
        );
    }

    #[test]
    fn a_varying_question_is_pointed_at_only_by_its_parents() {
        let mut sections = Sections::new(&name("*.example.com"), true);
        push(&mut sections, Section::Answer, Owner::Question, rtype::CNAME, name("*.example.com").as_wire());
        let body = sections.finish();
        assert!(body.bytes.ends_with(b"\x01*\xc0\x0e"));
    }
}
