//! The tables and the picture.

use std::fmt::Write as _;

use lictor_core::time::Duration;

use super::{Args, PATIENCE, Point};
use crate::experiment::plot::{Axis, Figure, Legend, Line, Panel, Scale};
use crate::experiment::table::markdown;

/// Both tables, each a graph of the paper, in a form that Markdown shows as a table, too.
pub(super) fn tables(args: &Args, widths: &[Point], scales: &[Point]) -> String {
    let mut text = format!(
        "{} elections a row in a cluster of five whose leader crashed, {}, {}, seed {}\n",
        args.elections,
        if args.equal_logs { "with equal logs" } else { "with logs of different lengths" },
        if args.without_pre_vote { "without pre-votes" } else { "with pre-votes" },
        args.seed
    );
    let ballot = scales.last().and_then(|widest| widest.ballot.percentile(50));
    let ballot = ballot.map_or_else(|| "nobody won".to_owned(), |time| format!("{} ms in the median", millis(time)));
    writeln!(text, "from a winner's step into its term to its majority, both disks included: {ballot}").ok();
    for (title, points) in [("the width of the timeout", widths), ("the length of the timeout", scales)] {
        writeln!(text, "\ntime without a leader (ms), by {title}:\n\n{}", table(points).trim_end()).ok();
    }
    text
}

const HEADS: [&str; 9] =
    ["timeout", "median", "mean", "p90", "p99", "max", "more than one term", "more than one attempt", "given up"];

fn table(points: &[Point]) -> String {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(points.iter().map(row));
    markdown(&rows)
}

fn row(point: &Point) -> [String; 9] {
    let time = |time: Option<Duration>| time.map_or_else(|| format!("> {}", PATIENCE.as_millis()), millis);
    let percentile = |percent| time(point.downtime.percentile(percent));
    [
        name(point),
        percentile(50),
        point.downtime.mean().map_or_else(|| "–".to_owned(), millis),
        percentile(90),
        percentile(99),
        percentile(100),
        percent(point.more_terms_permille),
        percent(point.more_attempts_permille),
        point.downtime.given_up().to_string(),
    ]
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

fn name(point: &Point) -> String {
    let low = point.election.timeout.as_millis();
    format!("{low}–{} ms", low + point.election.spread.as_millis())
}

/// Both graphs, as cumulative distributions, with the paper's axes.
pub(super) fn figure(widths: &[Point], scales: &[Point], pre_vote: bool) -> Figure {
    let title = if pre_vote { "with pre-votes" } else { "without pre-votes" };
    Figure {
        title: format!("Time without a leader after a crash, {title}"),
        panels: vec![
            panel("Timeouts of different widths", widths, 50.0..100_000.0, Scale::Log),
            panel("Timeouts of different lengths", scales, 0.0..600.0, Scale::Linear),
        ],
    }
}

fn panel(title: &str, points: &[Point], range: std::ops::Range<f64>, scale: Scale) -> Panel {
    let line = |point: &Point| Line { name: name(point), points: point.downtime.distribution(200) };
    Panel {
        title: title.to_owned(),
        x: Axis { label: "time without a leader (ms)".to_owned(), range, scale },
        y: Axis { label: "elections that had ended (%)".to_owned(), range: 0.0..100.0, scale: Scale::Linear },
        lines: points.iter().map(line).collect(),
        legend: Legend::LowerRight,
    }
}
