//! Numbers in strings: INCR and its kin.
//!
//! Floats are added in decimal, with 17 digits after the point as Redis prints them: exact where Redis, which adds binary
//! long doubles, may show the last digits of a rounding.

use crate::core::command::{Call, Reply};
use crate::core::effect;
use crate::core::shard::Refusal;
use wire::resp::number;

fn add(call: &mut Call<'_>, by: i64) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let old = match call.string(key)? {
        None => 0,
        Some(text) => number::integer(text).ok_or(Refusal::NOT_AN_INTEGER)?,
    };
    let new = old.checked_add(by).ok_or(Refusal::OVERFLOW)?;
    let expire_at_ms = call.expire_at_ms(key);
    let mut text = Vec::with_capacity(20);
    number::push_integer(&mut text, new);
    call.change(key, |out| effect::put_set(out, key, &text, expire_at_ms));
    call.out.integer(new);
    Ok(())
}

fn by(call: &Call<'_>) -> Result<i64, Refusal> {
    number::integer(&call.arguments[2]).ok_or(Refusal::NOT_AN_INTEGER)
}

pub(crate) fn incr(call: &mut Call<'_>) -> Reply {
    add(call, 1)
}

pub(crate) fn decr(call: &mut Call<'_>) -> Reply {
    add(call, -1)
}

pub(crate) fn incrby(call: &mut Call<'_>) -> Reply {
    let by = by(call)?;
    add(call, by)
}

pub(crate) fn decrby(call: &mut Call<'_>) -> Reply {
    let by = by(call)?.checked_neg().ok_or(Refusal::from("ERR decrement would overflow"))?;
    add(call, by)
}

pub(crate) fn incrbyfloat(call: &mut Call<'_>) -> Reply {
    let arguments = call.arguments;
    let key = &arguments[1];
    let old = call.string(key)?.map_or_else(|| b"0".to_vec(), <[u8]>::to_vec);
    number::float(&old).ok_or(Refusal::NOT_A_FLOAT)?;
    number::float(&arguments[2]).ok_or(Refusal::NOT_A_FLOAT)?;
    let new = add_floats(&old, &arguments[2])?;
    let expire_at_ms = call.expire_at_ms(key);
    call.change(key, |out| effect::put_set(out, key, new.as_bytes(), expire_at_ms));
    call.out.bulk(new.as_bytes());
    Ok(())
}

const DIGITS: u32 = 17;

/// A decimal as a multiple of 10⁻¹⁷, if it is small enough for that.
fn fixed(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let shift = (DIGITS as i32).checked_add(exponent)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let value = match u32::try_from(shift) {
        Ok(up) => value.checked_mul(10i128.checked_pow(up)?)?,
        Err(_) => {
            let unit = 10i128.checked_pow(shift.unsigned_abs())?;
            value.checked_add(unit / 2)? / unit
        }
    };
    // Room for the sum.
    (value < i128::MAX / 4).then_some(if negative { -value } else { value })
}

/// The sum of two floats given as text, as Redis writes it. Both must be floats.
///
/// # Errors
/// The sum is infinite or no number.
pub(crate) fn add_floats(a: &[u8], b: &[u8]) -> Result<String, Refusal> {
    let text = match (fixed(a), fixed(b)) {
        (Some(a), Some(b)) => {
            let sum = a + b;
            let unit = 10u128.pow(DIGITS);
            let sign = if sum < 0 { "-" } else { "" };
            format!("{sign}{}.{:017}", sum.unsigned_abs() / unit, sum.unsigned_abs() % unit)
        }
        _ => {
            let sum = number::float(a).ok_or(Refusal::NOT_A_FLOAT)?
                + number::float(b).ok_or(Refusal::NOT_A_FLOAT)?;
            if !sum.is_finite() {
                return Err("ERR increment would produce NaN or Infinity".into());
            }
            format!("{sum:.17}")
        }
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    Ok(if text == "-0" || text.is_empty() { "0".to_owned() } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::console::Console;

    #[test]
    fn counters() {
        Console::new().script(
            "INCR n -> (1)
             INCRBY n 10 -> (11)
             DECR n -> (10)
             DECRBY n 20 -> (-10)
             GET n -> -10
             EXPIRE n 100 -> (1)
             INCR n -> (-9)
             TTL n -> (100)
             SET n 9223372036854775807 -> OK
             INCR n -> ERR increment or decrement would overflow
             DECRBY n -9223372036854775808 -> ERR decrement would overflow
             INCRBY n 1.5 -> ERR value is not an integer or out of range
             SET n abc -> OK
             INCR n -> ERR value is not an integer or out of range
             SET n \"11 \" -> OK
             INCR n -> ERR value is not an integer or out of range
             HSET h f v -> (1)
             INCR h -> WRONGTYPE Operation against a key holding the wrong kind of value
             SET f 10.50 -> OK
             INCRBYFLOAT f 0.1 -> 10.6
             INCRBYFLOAT f -5 -> 5.6
             INCRBYFLOAT f abc -> ERR value is not a valid float
             INCRBYFLOAT n 1 -> ERR value is not a valid float",
        );
    }

    #[test]
    fn floats_add_as_redis_documents() {
        let sum = |a: &str, b: &str| add_floats(a.as_bytes(), b.as_bytes()).expect("finite");
        assert_eq!(sum("10.50", "0.1"), "10.6");
        assert_eq!(sum("10.6", "-5"), "5.6");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("0.1", "0.2"), "0.3");
        assert_eq!(sum("3", "-3"), "0");
        assert_eq!(sum("-0.5", "0.25"), "-0.25");
        assert_eq!(sum("1e300", "1e300").len(), 301);
        assert_eq!(sum("0", "1e-17"), "0.00000000000000001");
        assert_eq!(sum("100", "0"), "100");
        // Numbers that fit no fixed point: as floats, or refused, never an overflow of ours.
        assert!(add_floats(b"1e2147483647", b"1").is_err());
        assert_eq!(sum("1e-2147483648", "1"), "1");
        assert_eq!(sum("170141183460469231731687303715884105727e-55", "0"), "0.00000000000000002");
        assert_eq!(sum("170141183460469231731687303715884105727e-38", "0").get(..3), Some("1.7"));
        assert!(add_floats(b"1.7e308", b"1.7e308").is_err());
        assert!(add_floats(b"inf", b"1").is_err());
    }
}
