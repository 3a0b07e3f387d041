//! What a finding says of a check: its state, and its output in Consul's words.

use crate::api::health::{CRITICAL, PASSING, WARNING};
use crate::probe::{Finding, OUTPUT_BYTES, Question};
use crate::time::Duration;

/// The state that follows from a finding, and the output.
pub(super) fn of(question: &Question, timeout: Duration, finding: Finding) -> (&'static str, String) {
    match finding {
        Finding::Answered { status, reason, body } => {
            let state = match status {
                200..=299 => PASSING,
                429 => WARNING,
                _ => CRITICAL,
            };
            let (method, url) = match question {
                Question::Http { method, url, .. } => (method.as_str(), url.as_str()),
                _ => ("GET", ""),
            };
            let body = String::from_utf8_lossy(&body[..body.len().min(OUTPUT_BYTES)]);
            (state, format!("HTTP {method} {url}: {status} {reason} Output: {body}"))
        }
        Finding::Connected => {
            let address = if let Question::Tcp { address } = question { address.as_str() } else { "" };
            (PASSING, format!("TCP connect {address}: Success"))
        }
        Finding::Exited { code, output, total } => {
            let state = match code {
                Some(0) => PASSING,
                Some(1) => WARNING,
                _ => CRITICAL,
            };
            let kept = &output[output.len().saturating_sub(OUTPUT_BYTES)..];
            let text = String::from_utf8_lossy(kept);
            let total = total.max(output.len() as u64);
            if total > kept.len() as u64 {
                (state, format!("Captured {} of {total} bytes\n...\n{text}", kept.len()))
            } else {
                (state, text.into_owned())
            }
        }
        Finding::TimedOut => (CRITICAL, format!("Timed out ({}) running check", duration(timeout))),
        Finding::Failed { reason } => (CRITICAL, told(reason)),
    }
}

/// What users tell of a check, cut off where it is too long.
pub(super) fn told(output: String) -> String {
    if output.len() <= OUTPUT_BYTES {
        return output;
    }
    let mut end = OUTPUT_BYTES;
    while !output.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ... (captured {end} of {} bytes)", &output[..end], output.len())
}

/// What is said of a check that nobody has told anything of for too long.
pub(super) fn expired(last: &str) -> String {
    if last.is_empty() {
        "TTL expired".to_owned()
    } else {
        format!("TTL expired (last output before timeout follows): {last}")
    }
}

/// A duration as Go writes it: `1m30s`, `1.5s`, `500ms`.
fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |unit: u128| {
        let fraction = format!("{:0width$}", nanos % unit, width = unit.ilog10() as usize);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() || unit == 1 { String::new() } else { format!(".{fraction}") }
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}{}µs", nanos / 1_000, decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{}{}ms", nanos / 1_000_000, decimal(1_000_000)),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let rest = format!("{}{}s", seconds % 60, decimal(1_000_000_000));
            match (hours, minutes) {
                (0, 0) => rest,
                (0, _) => format!("{minutes}m{rest}"),
                _ => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::probe::Command;

    fn http() -> Question {
        Question::Http {
            url: "http://x/f".into(),
            method: "GET".into(),
            header: Default::default(),
            body: String::new(),
            tls_skip_verify: false,
        }
    }

    #[test]
    fn a_servers_status_decides() {
        for (status, reason, state) in [
            (200, "OK", PASSING),
            (204, "No Content", PASSING),
            (299, "", PASSING),
            (301, "Moved Permanently", CRITICAL),
            (429, "Too Many Requests", WARNING),
            (500, "Internal Server Error", CRITICAL),
            (199, "", CRITICAL),
        ] {
            let finding = Finding::Answered { status, reason: reason.into(), body: Bytes::from_static(b"all is well") };
            let (found, output) = of(&http(), Duration::ZERO, finding);
            assert_eq!(found, state, "{status}");
            assert_eq!(output, format!("HTTP GET http://x/f: {status} {reason} Output: all is well"));
        }
    }

    #[test]
    fn a_commands_exit_decides_and_long_output_is_cut() {
        let question = Question::Command(Command::Shell("x".into()));
        let run = |code, output: &str, total| {
            let output = Bytes::copy_from_slice(output.as_bytes());
            of(&question, Duration::ZERO, Finding::Exited { code, output, total })
        };
        assert_eq!(run(Some(0), "fine\n", 5), (PASSING, "fine\n".into()));
        assert_eq!(run(Some(1), "hm\n", 3), (WARNING, "hm\n".into()));
        assert_eq!(run(Some(255), "", 0), (CRITICAL, String::new()));
        assert_eq!(run(None, "", 0).0, CRITICAL);
        let kept = "x".repeat(OUTPUT_BYTES);
        assert_eq!(run(Some(0), &kept, 9_000).1, format!("Captured 4096 of 9000 bytes\n...\n{kept}"));
        let more = format!("a{kept}");
        assert_eq!(run(Some(0), &more, 0).1, format!("Captured 4096 of 4097 bytes\n...\n{kept}"));
    }

    #[test]
    fn connections_and_failures_speak_for_themselves() {
        let tcp = Question::Tcp { address: "h:1".into() };
        assert_eq!(of(&tcp, Duration::ZERO, Finding::Connected), (PASSING, "TCP connect h:1: Success".into()));
        let failed = Finding::Failed { reason: "connection refused".into() };
        assert_eq!(of(&tcp, Duration::ZERO, failed), (CRITICAL, "connection refused".into()));
        let late = of(&tcp, Duration::from_secs(30), Finding::TimedOut);
        assert_eq!(late, (CRITICAL, "Timed out (30s) running check".into()));
    }

    #[test]
    fn what_is_told_is_cut_where_a_letter_ends() {
        assert_eq!(told("A".repeat(4096)), "A".repeat(4096));
        assert_eq!(told("B".repeat(4097)), format!("{} ... (captured 4096 of 4097 bytes)", "B".repeat(4096)));
        let odd = format!("a{}", "é".repeat(3000));
        let cut = told(odd);
        assert!(cut.ends_with(" ... (captured 4095 of 6001 bytes)"), "{}", &cut[4000..]);
    }

    #[test]
    fn durations_read_as_go_writes_them() {
        for (nanos, text) in [
            (0_u64, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }
}
