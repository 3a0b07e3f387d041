//! Durations as Go writes them: `10s`, `1h15m30.918s`, `-1.5h`, `100us`.

use std::time::Duration;

/// The units of the grammar in nanoseconds. Both micro signs are known: U+00B5 and the Greek letter.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The most nanoseconds on either side of zero: Go keeps them in 64 bits with a sign.
const LIMIT: u64 = 1 << 63;

/// Reads a duration: an optional sign, then one or more decimal numbers, each with an optional fraction
/// and a unit; or a bare `0`. The result is in nanoseconds, `None` if `text` is no duration or does not
/// fit into 64 bits.
#[must_use]
pub fn parse_nanos(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, tail) = parse_term(rest)?;
        total = total.checked_add(nanos).filter(|sum| *sum <= LIMIT)?;
        rest = tail;
    }
    match negative {
        true => Some(0i64.wrapping_sub_unsigned(total)),
        false => i64::try_from(total).ok(),
    }
}

/// Reads a duration of which anything up to zero means "none given".
pub fn parse_positive(text: &str) -> Option<Option<Duration>> {
    let nanos = parse_nanos(text)?;
    Some(u64::try_from(nanos).ok().filter(|n| *n > 0).map(Duration::from_nanos))
}

/// Why [`parse_nanos`] does not take `text`, in the words of Go.
#[must_use]
pub fn why_not(text: &str) -> String {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = unsigned;
    while !rest.is_empty() {
        if let Some((_, tail)) = parse_term(rest) {
            rest = tail;
            continue;
        }
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = rest.len() - number.len();
        let fraction = number.strip_prefix('.').map(|tail| tail.trim_start_matches(|c: char| c.is_ascii_digit()));
        let after = fraction.unwrap_or(number);
        // A number must have a digit, before its point or behind it.
        if digits == 0 && fraction.is_none_or(|tail| tail.len() + 1 == number.len()) {
            return invalid();
        }
        let unit = after.split(|c: char| c == '.' || c.is_ascii_digit()).next().unwrap_or_default();
        return match unit {
            "" => format!("time: missing unit in duration {text:?}"),
            unit if UNITS.iter().all(|(name, _)| *name != unit) => {
                format!("time: unknown unit {unit:?} in duration {text:?}")
            }
            _ => invalid(),
        };
    }
    invalid()
}

/// Writes a duration as Go does: `0s`, `200ms`, `1h0m0.5s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (scale, unit) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let (whole, fraction) = (nanos / scale, nanos % scale);
    let minutes = if unit == "s" { whole / 60 } else { 0 };
    let mut text = match minutes {
        0 => format!("{whole}"),
        1..60 => format!("{minutes}m{}", whole % 60),
        _ => format!("{}h{}m{}", minutes / 60, minutes % 60, whole % 60),
    };
    if fraction != 0 {
        // As many digits as the scale has zeros, without those at the end.
        let digits = format!("{:0width$}", fraction, width = scale.ilog10() as usize);
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text + unit
}

/// Reads one number with its unit from the front of `text`; gives nanoseconds and what is left.
fn parse_term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let whole = match whole {
        "" => 0,
        digits => digits.parse::<u64>().ok()?,
    };
    let nanos = whole.checked_mul(scale).filter(|n| *n <= LIMIT)?.checked_add(fraction_nanos(fraction, scale))?;
    (nanos <= LIMIT).then_some((nanos, rest))
}

/// What `0.<digits>` units are in whole nanoseconds. Digits beyond the eighteenth cannot matter: the
/// largest unit has fewer than 13.
fn fraction_nanos(digits: &str, scale: u64) -> u64 {
    let digits = &digits[..digits.len().min(18)];
    let Ok(value) = digits.parse::<u64>() else { return 0 };
    let power = 10u128.pow(digits.len() as u32);
    (u128::from(value) * u128::from(scale) / power) as u64
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("5s", 5 * SECOND),
            ("30m", 1800 * SECOND),
            ("1478s", 1478 * SECOND),
            ("-5s", -5 * SECOND),
            ("+5s", 5 * SECOND),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5_600_000_000),
            ("5.s", 5 * SECOND),
            (".5s", SECOND / 2),
            ("1.0040s", 1_004_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("3h30m", 12_600 * SECOND),
            ("10.5s4m", 250_500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("0.100000000000000000000h", 360 * SECOND),
            ("00005s", 5 * SECOND),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse_nanos(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let cases = [
            "",
            "3",
            "10",
            "-",
            "+",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "5 s",
            " 5s",
            "5s ",
            "1d",
            "5S",
            "--5s",
            "1e3s",
            "1_000s",
            "abc",
            "s5",
            "5s3",
            "3000000h",
            "9223372036854775808ns",
            "-9223372036854775809ns",
            "99999999999999999999s",
            "9223372036854ms775us808ns",
            "\u{221e}s",
            "5\u{e9}",
        ];
        for text in cases {
            assert_eq!(parse_nanos(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_go() {
        let cases = [
            ("", "invalid duration \"\""),
            ("abc", "invalid duration \"abc\""),
            ("-.s", "invalid duration \"-.s\""),
            ("10", "missing unit in duration \"10\""),
            ("1s2.5", "missing unit in duration \"1s2.5\""),
            ("1d", "unknown unit \"d\" in duration \"1d\""),
            ("5 s", "unknown unit \" s\" in duration \"5 s\""),
            ("3000000h", "invalid duration \"3000000h\""),
            ("99999999999999999999s", "invalid duration \"99999999999999999999s\""),
        ];
        for (text, why) in cases {
            assert_eq!(parse_nanos(text), None);
            assert_eq!(why_not(text), format!("time: {why}"));
        }
    }

    #[test]
    fn zero_and_less_are_none_given() {
        assert_eq!(parse_positive("0s"), Some(None));
        assert_eq!(parse_positive("-3s"), Some(None));
        assert_eq!(parse_positive("2ms"), Some(Some(Duration::from_millis(2))));
        assert_eq!(parse_positive("2"), None);
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (200_000_000, "200ms"),
            (2_200_000, "2.2ms"),
            (10_000_000_000, "10s"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (480_000_000_001, "8m0.000000001s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(format(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanos in 0..i64::MAX) {
            prop_assert_eq!(parse_nanos(&format(Duration::from_nanos(nanos as u64))), Some(nanos));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,24}") {
            let _ = parse_nanos(&text);
            let _ = why_not(&text);
        }

        #[test]
        fn text_of_the_grammar_s_own_letters_is_read_or_refused(text in "[-+]?([0-9.]{0,22}(ns|us|ms|s|m|h|)){0,4}") {
            let _ = parse_nanos(&text);
        }

        #[test]
        fn a_duration_in_all_units_is_their_sum(h in 0u64..2_000_000, m in 0u64..60, s in 0u64..60, ms in 0u64..1000, us in 0u64..1000, ns in 0u64..1000) {
            let text = format!("{h}h{m}m{s}s{ms}ms{us}us{ns}ns");
            let sum = ((((h * 60 + m) * 60 + s) * 1000 + ms) * 1000 + us) * 1000 + ns;
            prop_assert_eq!(parse_nanos(&text), i64::try_from(sum).ok());
            let negative = format!("-{text}");
            prop_assert_eq!(parse_nanos(&negative), i64::try_from(sum).ok().map(|n| -n));
        }

        #[test]
        fn fractions_of_a_second_are_exact(nanos in 0u64..9_000_000_000_000_000_000) {
            let text = format!("{}.{:09}s", nanos / 1_000_000_000, nanos % 1_000_000_000);
            prop_assert_eq!(parse_nanos(&text), i64::try_from(nanos).ok());
        }
    }
}
