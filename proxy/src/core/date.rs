//! The Date field (RFC 9110 section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.

/// Bytes of a date.
pub const DATE_BYTES: usize = 29;

/// The date of a number of seconds since 1970, to the year 9999.
pub fn imf_fixdate(unix_s: u64) -> [u8; DATE_BYTES] {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days are counted from 1 March of the year 0, in eras of 400 years (Howard Hinnant, chrono-compatible date algorithms).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12;
    let year = 400 * era + year_of_era + u64::from(month < 2);

    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[..3].copy_from_slice(&b"ThuFriSatSunMonTueWed"[3 * (days % 7) as usize..][..3]);
    out[8..11].copy_from_slice(&b"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * month as usize..][..3]);
    for (at, number) in [
        (5, day),
        (12, year / 100 % 100),
        (14, year % 100),
        (17, second / 3600),
        (20, second / 60 % 60),
        (23, second % 60),
    ] {
        out[at] = b'0' + (number / 10) as u8;
        out[at + 1] = b'0' + (number % 10) as u8;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        for (unix_s, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&imf_fixdate(unix_s)).unwrap(), date);
        }
    }
}
