//! DNS over UDP, as a client: names drawn out of a zone, every answer held against what the zone says.

use super::datagrams::{Answer, DatagramClient, Found};
use super::keys::{Keys, Popularity};
use std::net::Ipv4Addr;
use wire::dns::code::{class, flag, rcode, rtype};
use wire::dns::{HEADER_BYTES, Name};

/// The zone that is asked about.
pub(crate) const ZONE: &str = "mysite.com";
/// The name whose address depends on the client's network.
pub(crate) const NEAREST: &str = "near.mysite.com";
/// The networks of clients, each as the first two octets of its addresses; and what is nearest to them.
pub(crate) const NETWORKS: [([u8; 2], Ipv4Addr); 2] =
    [([10, 1], Ipv4Addr::new(192, 0, 2, 1)), ([10, 2], Ipv4Addr::new(192, 0, 2, 2))];
/// EDNS's option that carries a client's network (RFC 7871 section 6).
const CLIENT_SUBNET: u8 = 8;
/// What a client that knows EDNS says it can take (DNS flag day 2020).
const EDNS_BYTES: u16 = 1232;

/// What a socket asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The address of a name that there is.
    Address,
    /// The address of a name that there is not.
    Missing,
    /// The address nearest to a client, who is named by EDNS's client subnet.
    Nearest,
}

/// The first label of a name: `h` for names that there are, else `n`, and its number in [`DIGITS`] digits.
pub(crate) fn label(ask: Ask, number: u64) -> String {
    format!("{}{number:0DIGITS$}", if ask == Ask::Missing { 'n' } else { 'h' })
}

/// Digits of a name's number.
const DIGITS: usize = 5;
/// Where they are in the question: behind the label's length and its letter.
const DIGITS_AT: usize = 2;

/// The address of a name that there is, by its number.
pub(crate) fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | number as u32)
}

/// One socket.
pub(crate) struct Dns {
    ask: Ask,
    keys: Keys,
    /// The question about the name with number 0: name, type A, class IN.
    question: Vec<u8>,
}

impl Dns {
    /// Draws out of `names` names, evenly; the same seed draws the same ones.
    pub(crate) fn new(ask: Ask, names: u64, seed: u64) -> Dns {
        let (name, count) = match ask {
            Ask::Nearest => (NEAREST.to_owned(), NETWORKS.len() as u64),
            Ask::Address | Ask::Missing => (format!("{}.{ZONE}", label(ask, 0)), names),
        };
        let name = Name::from_absolute_text(&name).expect("a name");
        let question = [name.as_wire(), &rtype::A.to_be_bytes(), &class::IN.to_be_bytes()].concat();
        Dns { ask, keys: Keys::new(count, Popularity::Uniform, seed), question }
    }

    /// Writes the query for what has this number.
    pub(crate) fn write(&self, id: u16, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.ask == Ask::Nearest)]);
        let question = out.len();
        out.extend_from_slice(&self.question);
        if self.ask == Ask::Nearest {
            let ([first, second], _) = NETWORKS[number as usize];
            let [size_high, size_low] = EDNS_BYTES.to_be_bytes();
            // The root's name, OPT, the size, no flags; one option: of IPv4 the first 24 bits.
            out.extend_from_slice(&[0, 0, rtype::OPT as u8, size_high, size_low, 0, 0, 0, 0, 0, 11]);
            out.extend_from_slice(&[0, CLIENT_SUBNET, 0, 7, 0, 1, 24, 0, first, second, 3]);
        } else {
            let mut rest = number;
            for digit in out[question + DIGITS_AT..][..DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }

    /// The number of the name that a question is about, if it is one of ours.
    fn asked(&self, question: &[u8]) -> Option<u64> {
        if self.ask == Ask::Nearest {
            return (question == self.question).then_some(0);
        }
        let (before, rest) = question.split_at_checked(DIGITS_AT)?;
        let (digits, after) = rest.split_at_checked(DIGITS)?;
        let same = before == &self.question[..DIGITS_AT] && after == &self.question[DIGITS_AT + DIGITS..];
        let number = || digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        (same && digits.iter().all(u8::is_ascii_digit)).then(number)
    }
}

impl DatagramClient for Dns {
    fn request(&mut self, number: u16, out: &mut Vec<u8>) -> u32 {
        let name = self.keys.draw();
        self.write(number, name, out);
        name as u32
    }

    fn answer(&self, bytes: &[u8]) -> Result<Answer, String> {
        let wrong = |what: &str| format!("{what}: {:02x?}", &bytes[..bytes.len().min(100)]);
        let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let header = |at: usize| word(at).ok_or_else(|| wrong("not a whole header"));
        let (number, flags) = (header(0)?, header(2)?);
        if flags & flag::QR == 0 || flags & flag::TC != 0 {
            return Err(wrong("no answer, or a part of one"));
        }
        let code = flags & flag::RCODE;
        if !matches!(code, rcode::NOERROR | rcode::NXDOMAIN) {
            return Ok(Answer { number, found: Found::Refused });
        }
        let end = HEADER_BYTES + self.question.len();
        let question = bytes.get(HEADER_BYTES..end).unwrap_or_default();
        let name = self.asked(question).ok_or_else(|| wrong("to another question"))?;
        if flags & flag::AA == 0 || header(4)? != 1 {
            return Err(wrong("not of the zone's own server"));
        }
        let answers = header(6)?;
        if code == rcode::NXDOMAIN {
            return match self.ask {
                Ask::Missing if answers == 0 => Ok(Answer { number, found: Found::Right(name as u32) }),
                _ => Err(wrong("no such name, though there is")),
            };
        }
        // One record: a pointer to the name, or the name again; type, class, TTL, length and four octets.
        let is_pointer = bytes.get(end).is_some_and(|first| first & 0xc0 == 0xc0);
        let record = end + if is_pointer { 2 } else { self.question.len() - 4 };
        let address: Option<[u8; 4]> =
            bytes.get(record + 10..record + 14).and_then(|four| four.try_into().ok());
        let fixed = [word(record), word(record + 2), word(record + 8)];
        let (Some(address), 1, true) =
            (address, answers, fixed == [Some(rtype::A), Some(class::IN), Some(4)])
        else {
            return Err(wrong("not one address"));
        };
        let address = Ipv4Addr::from(address);
        let about = match self.ask {
            Ask::Address if address == self::address(name) => Some(name as u32),
            Ask::Nearest => {
                NETWORKS.iter().position(|(_, near)| *near == address).map(|network| network as u32)
            }
            _ => None,
        };
        let found = about.map(Found::Right).ok_or_else(|| wrong("another address than the zone's"))?;
        Ok(Answer { number, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to a query: its question, these flags, and records with these addresses.
    fn reply(query: &[u8], question_bytes: usize, flags: u16, addresses: &[Ipv4Addr]) -> Vec<u8> {
        let mut reply = query[..HEADER_BYTES + question_bytes].to_vec();
        reply[2..4].copy_from_slice(&(flag::QR | flags).to_be_bytes());
        reply[7] = addresses.len() as u8;
        reply[11] = 0;
        for address in addresses {
            reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
            reply.extend_from_slice(&address.octets());
        }
        reply
    }

    fn query(dns: &Dns, number: u64) -> Vec<u8> {
        let mut query = Vec::new();
        dns.write(7, number, &mut query);
        query
    }

    #[test]
    fn queries_are_what_a_server_reads() {
        for (ask, name) in [(Ask::Address, "h00123.mysite.com"), (Ask::Missing, "n00123.mysite.com")] {
            let bytes = query(&Dns::new(ask, 1000, 1), 123);
            let query = wire::dns::Query::parse(&bytes).unwrap();
            assert_eq!(query.name(), Name::from_absolute_text(name).unwrap().as_wire());
        }
        let bytes = query(&Dns::new(Ask::Nearest, 1000, 1), 1);
        assert!(bytes.ends_with(&[0, 8, 0, 7, 0, 1, 24, 0, 10, 2, 3]));
        assert!(wire::dns::Query::parse(&bytes).is_ok());
    }

    #[test]
    fn answers_are_held_against_the_zone() {
        let dns = Dns::new(Ask::Address, 1000, 1);
        let query = query(&dns, 123);
        let answer = |flags: u16, addresses: &[Ipv4Addr]| {
            dns.answer(&reply(&query, dns.question.len(), flags, addresses)).map(|answer| answer.found)
        };
        let (right, other) = (address(123), address(124));
        assert_eq!(answer(flag::AA, &[right]), Ok(Found::Right(123)));
        assert_eq!(answer(rcode::SERVFAIL, &[]), Ok(Found::Refused));
        for (flags, addresses, why) in [
            (flag::AA, &[other][..], "another address"),
            (flag::AA, &[right, right], "not one address"),
            (flag::AA, &[], "not one address"),
            (0, &[right], "not of the zone's own server"),
            (flag::AA | rcode::NXDOMAIN, &[], "no such name"),
            (flag::AA | flag::TC, &[right], "a part of one"),
        ] {
            let error = answer(flags, addresses).unwrap_err();
            assert!(error.contains(why), "{error} {why}");
        }
        let mut another = reply(&query, dns.question.len(), flag::AA, &[right]);
        another[HEADER_BYTES + DIGITS_AT] = b'x';
        assert!(dns.answer(&another).unwrap_err().contains("another question"));
    }

    #[test]
    fn no_such_name_is_an_answer_where_there_is_none() {
        let dns = Dns::new(Ask::Missing, 1000, 1);
        let query = query(&dns, 99_999);
        let answer = dns.answer(&reply(&query, dns.question.len(), flag::AA | rcode::NXDOMAIN, &[]));
        assert_eq!(answer, Ok(Answer { number: 7, found: Found::Right(99_999) }));
        assert!(dns.answer(&reply(&query, dns.question.len(), flag::AA, &[address(1)])).is_err());
    }

    #[test]
    fn the_nearest_is_told_by_its_address() {
        let dns = Dns::new(Ask::Nearest, 1000, 1);
        let query = query(&dns, 1);
        let answer = dns.answer(&reply(&query, dns.question.len(), flag::AA, &[NETWORKS[1].1]));
        assert_eq!(answer.map(|answer| answer.found), Ok(Found::Right(1)));
    }
}
