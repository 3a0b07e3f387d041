//! The tables and the pictures.

use std::fmt::Write as _;

use lictor_core::time::Duration;

use super::{Args, MEMBERS, Point, Row, SILENT_MS, SLOW, WELL_MS};
use crate::experiment::plot::{Axis, Figure, Legend, Line, Panel, Scale};
use crate::experiment::sample::Sample;
use crate::experiment::table::markdown;

fn head(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{:.0}", time.as_secs_f64() * 1e3))
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{:.2}", time.as_secs_f64()))
}

fn median(sample: &Sample) -> Option<Duration> {
    sample.percentile(50)
}

/// Dissemination and detection by size.
pub(super) fn size_tables(args: &Args, points: &[Point]) -> String {
    let mut text = format!("pools of different sizes, seed {}\n", args.seed);
    let mut rows = vec![head(&[
        "members",
        "events",
        "50 %",
        "99 %",
        "all",
        "theory",
        "all, p90",
        "p99",
        "longest",
        "by exchange",
    ])];
    rows.extend(points.iter().map(|point| {
        vec![
            point.size.to_string(),
            point.all.trials().to_string(),
            millis(median(&point.half)),
            millis(median(&point.most)),
            millis(median(&point.all)),
            format!("{:.0}", spreading(point.size)),
            millis(point.all.percentile(90)),
            millis(point.all.percentile(99)),
            millis(point.all.percentile(100)),
            format!("{:.1} %", 100.0 * point.by_exchange as f64 / point.all.trials() as f64),
        ]
    }));
    writeln!(
        text,
        "\nfrom the firing of an event until members have it (ms, medians):\n\n{}",
        markdown(&rows).trim_end()
    )
    .ok();
    let mut rows = vec![head(&[
        "members",
        "deaths",
        "suspected",
        "mean",
        "declared",
        "p99",
        "known to all",
        "p99",
        "theory",
        "packets/s",
    ])];
    rows.extend(points.iter().map(|point| {
        vec![
            point.size.to_string(),
            point.first.trials().to_string(),
            seconds(median(&point.suspected)),
            seconds(point.suspected.mean()),
            seconds(median(&point.first)),
            seconds(point.first.percentile(99)),
            seconds(median(&point.known)),
            seconds(point.known.percentile(99)),
            format!("{:.2}", detection(point.size)),
            format!("{:.1}", point.packets_millis as f64 / 1e3),
        ]
    }));
    writeln!(
        text,
        "\nfrom a death until members know of it (s, medians where not said otherwise):\n\n{}",
        markdown(&rows)
    )
    .ok();
    text
}

/// How many milliseconds theory gives from the firing of an event until all have it, in the median.
///
/// Whoever hears something first tells three others at once. That wave goes as fast as the network, in log₃ n steps, and leaves out
/// a share of the members that solves s = e^(−3 (1 − s)). Then those who have it tell three more every 200 ms, each time leaving out the
/// same share of those who are left, until the last one is reached in half of all cases.
fn spreading(size: usize) -> f64 {
    let left_out: f64 = (0..50).fold(0.5, |left: f64, _| (-3.0 * (1.0 - left)).exp());
    let size = size as f64;
    let rounds = (size / 2_f64.ln()).ln() / -left_out.ln() - 1.0;
    size.ln() / 3_f64.ln() + 200.0 * rounds.max(0.0)
}

/// How many seconds theory gives from a death to its declaration: a wait for the next probe, which somebody's hits the dead one with a
/// chance of 1 − 1/e in each second; a second until it is given up; and the shortest suspicion.
fn detection(size: usize) -> f64 {
    1.0 / (1.0 - (-1.0_f64).exp()) - 0.5 + 1.0 + 4.0 * (size as f64).log10().max(1.0)
}

/// Times against the size, which is divided in ratios: a logarithm is a straight line.
pub(super) fn size_figure(points: &[Point]) -> Figure {
    let line = |name: &str, y: &dyn Fn(&Point) -> Option<f64>| Line {
        name: name.to_owned(),
        points: points.iter().filter_map(|point| Some((point.size as f64, y(point)?))).collect(),
    };
    let of = |sample: &Sample, percent: usize, unit: f64| Some(sample.percentile(percent)?.as_secs_f64() * unit);
    let spread = vec![
        line("50 % have it", &|point| of(&point.half, 50, 1e3)),
        line("99 % have it", &|point| of(&point.most, 50, 1e3)),
        line("all have it", &|point| of(&point.all, 50, 1e3)),
        line("all have it, 90th percentile", &|point| of(&point.all, 90, 1e3)),
        line("theory of all", &|point| Some(spreading(point.size))),
    ];
    let deaths = vec![
        line("suspected by anybody", &|point| of(&point.suspected, 50, 1.0)),
        line("declared dead by anybody", &|point| of(&point.first, 50, 1.0)),
        line("known to all", &|point| of(&point.known, 50, 1.0)),
        line("known to all, 99th percentile", &|point| of(&point.known, 99, 1.0)),
        line("theory of the declaration", &|point| Some(detection(point.size))),
    ];
    let panel = |title: &str, unit: &str, lines: Vec<Line>| {
        let most = lines.iter().flat_map(|line| &line.points).fold(1.0_f64, |most, (_, y)| most.max(*y));
        let last = points.last().map_or(1.0, |point| point.size as f64);
        Panel {
            title: title.to_owned(),
            x: Axis { label: "members".to_owned(), range: 7.0..last.max(8.0) * 1.2, scale: Scale::Log },
            y: Axis { label: format!("time ({unit})"), range: 0.0..most * 1.5, scale: Scale::Linear },
            lines,
            legend: Legend::UpperRight,
        }
    };
    Figure {
        title: "Gossip in pools of different sizes".to_owned(),
        panels: vec![
            panel("From the firing of an event (medians)", "ms", spread),
            panel("From a death (medians)", "s", deaths),
        ],
    }
}

fn ratio(base: u64, count: u64) -> String {
    if count == 0 { "∞".to_owned() } else { format!("{:.1}", base as f64 / count as f64) }
}

/// False positives and detection times by setting.
pub(super) fn lifeguard_tables(args: &Args, rows: &[Row]) -> String {
    let each = args.repetitions * (SILENT_MS.len() * WELL_MS.len()) as u64;
    let mut text = format!(
        "{MEMBERS} members, {each} tests of 120 s for each number of slow members and setting, seed {}: silent for {SILENT_MS:?} ms, well for {WELL_MS:?} ms\n",
        args.seed
    );
    let base = &rows[0].total;
    let mut cells = vec![head(&["setting", "FP", "by", "FP−", "by", "packets", "bytes"])];
    cells.extend(rows.iter().map(|row| {
        let share = |count: u64, base: u64| format!("{:.0} %", 100.0 * count as f64 / base.max(1) as f64);
        vec![
            row.setting.name.clone(),
            row.total.false_positives.to_string(),
            ratio(base.false_positives, row.total.false_positives),
            row.total.by_sound.to_string(),
            ratio(base.by_sound, row.total.by_sound),
            share(row.total.packets, base.packets),
            share(row.total.bytes, base.bytes),
        ]
    }));
    writeln!(text, "\nsound members declared dead, in all tests:\n\n{}", markdown(&cells).trim_end()).ok();
    for (title, count) in [
        ("by anybody (FP)", (|total| total.false_positives) as fn(&super::Total) -> u64),
        ("by sound members (FP−)", |total| total.by_sound),
    ] {
        let mut cells = vec![std::iter::once("setting".to_owned()).chain(SLOW.map(|n| format!("C={n}"))).collect()];
        cells.extend(rows.iter().map(|row| {
            let counts = row.by_slow.iter().map(|(_, total)| count(total).to_string());
            std::iter::once(row.setting.name.clone()).chain(counts).collect::<Vec<_>>()
        }));
        writeln!(text, "\n{title}, by the number of slow members:\n\n{}", markdown(&cells).trim_end()).ok();
    }
    let mut cells = vec![head(&[
        "setting",
        "quiet: first",
        "p99",
        "to SWIM's",
        "all",
        "p99",
        "to SWIM's",
        "slow: first",
        "p99",
        "all",
        "missed",
    ])];
    let relative = |sample: &Sample, base: &Sample| match (median(sample), median(base)) {
        (Some(time), Some(base)) => format!("{:+.1} %", 100.0 * (time.as_secs_f64() / base.as_secs_f64() - 1.0)),
        _ => "–".to_owned(),
    };
    cells.extend(rows.iter().map(|row| {
        let ((first, known), total) = (&row.quiet, &row.total);
        vec![
            row.setting.name.clone(),
            seconds(median(first)),
            seconds(first.percentile(99)),
            relative(first, &rows[0].quiet.0),
            seconds(median(known)),
            seconds(known.percentile(99)),
            relative(known, &rows[0].quiet.1),
            seconds(median(&total.first)),
            seconds(total.first.percentile(99)),
            seconds(median(&total.known)),
            (total.first.given_up() + total.known.given_up()).to_string(),
        ]
    }));
    writeln!(
        text,
        "\nfrom the death of a sound member until a sound one declares it, and all know (s, medians):\n\n{}",
        markdown(&cells)
    )
    .ok();
    text
}

/// False positives against the number of slow members.
pub(super) fn lifeguard_figure(rows: &[Row]) -> Figure {
    let lines = |count: fn(&super::Total) -> u64| -> Vec<Line> {
        let line = |row: &Row| Line {
            name: row.setting.name.clone(),
            points: row.by_slow.iter().map(|(slow, total)| (*slow as f64, count(total) as f64)).collect(),
        };
        rows.iter().take(5).map(line).collect()
    };
    let panel = |title: &str, lines: Vec<Line>| {
        let most = lines.iter().flat_map(|line| &line.points).fold(10.0_f64, |most, (_, y)| most.max(*y));
        Panel {
            title: title.to_owned(),
            x: Axis { label: "slow members at the same time".to_owned(), range: 0.9..36.0, scale: Scale::Log },
            y: Axis { label: "sound members declared dead".to_owned(), range: 0.9..most * 2.0, scale: Scale::Log },
            lines,
            legend: Legend::LowerRight,
        }
    };
    Figure {
        title: format!("Who is wronged when members are slow ({MEMBERS} members)"),
        panels: vec![
            panel("By anybody (FP)", lines(|total| total.false_positives)),
            panel("By sound members (FP−)", lines(|total| total.by_sound)),
        ],
    }
}
