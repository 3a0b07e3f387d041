//! Pictures of experiments: lines over two axes, in panels below each other, as SVG text.
//!
//! What lies outside an axis' range is drawn at its end, and the background is white, so that a picture reads the
//! same on a dark page. The same figure gives the same text, always.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

/// A picture.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What stands above it all.
    pub title: String,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows, in a few words.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub lines: Vec<Line>,
    /// Where the legend lies, so that it hides no line.
    pub legend: Legend,
}

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it counts, and in which unit.
    pub label: String,
    /// Its ends. Those of a logarithmic axis lie above 0.
    pub range: Range<f64>,
    /// How it is divided.
    pub scale: Scale,
}

/// How an axis is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps are equal differences.
    Linear,
    /// Equal steps are equal ratios.
    Log,
}

/// A named line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Where it goes through.
    pub points: Vec<(f64, f64)>,
}

/// A corner for the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legend {
    /// Right, below.
    LowerRight,
    /// Right, above.
    UpperRight,
}

/// All pictures are as wide as this, and each panel is as high as that, in the SVG's own units.
const WIDTH: u32 = 900;
const PANEL_HEIGHT: u32 = 480;
const TITLE_HEIGHT: u32 = 50;

/// Okabe and Ito's colours, which readers with any colour vision can tell apart. When they run
/// out they begin anew, with thinner lines.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 0, 0),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(86, 180, 233),
    RGBColor(0, 114, 178),
    RGBColor(204, 121, 167),
];

/// Draws a figure.
///
/// # Errors
/// A sentence, if an axis has no extent, or is logarithmic and reaches down to 0.
pub fn svg(figure: &Figure) -> Result<String, String> {
    for panel in &figure.panels {
        panel.x.check()?;
        panel.y.check()?;
    }
    let mut text = String::new();
    draw(figure, &mut text).map_err(|why| format!("the picture cannot be drawn: {why}"))?;
    Ok(text)
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw<'a>(figure: &Figure, text: &'a mut String) -> Drawn<'a> {
    let panels = u32::try_from(figure.panels.len()).unwrap_or(u32::MAX).max(1);
    let size = (WIDTH, TITLE_HEIGHT.saturating_add(panels.saturating_mul(PANEL_HEIGHT)));
    let area = SVGBackend::with_string(text, size).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(&figure.title, ("sans-serif", 25))?;
    for (panel, area) in figure.panels.iter().zip(area.split_evenly((panels as usize, 1))) {
        draw_panel(panel, &area)?;
    }
    area.present()
}

fn draw_panel<'a>(panel: &Panel, area: &Area<'a>) -> Drawn<'a> {
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(40)
        .caption(&panel.title, ("sans-serif", 20))
        .x_label_area_size(52)
        .y_label_area_size(66)
        .build_cartesian_2d(panel.x.clone(), panel.y.clone())?;
    chart
        .configure_mesh()
        .x_desc(&panel.x.label)
        .y_desc(&panel.y.label)
        .axis_desc_style(("sans-serif", 18))
        .label_style(("sans-serif", 15))
        .max_light_lines(2)
        .bold_line_style(BLACK.mix(0.22))
        .light_line_style(BLACK.mix(0.08))
        .draw()?;
    for (number, line) in panel.lines.iter().enumerate() {
        let width = 2_usize.saturating_sub(number / COLOURS.len()).max(1);
        let style = COLOURS[number % COLOURS.len()].stroke_width(u32::try_from(width).unwrap_or(1));
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    let corner = match panel.legend {
        Legend::LowerRight => SeriesLabelPosition::LowerRight,
        Legend::UpperRight => SeriesLabelPosition::UpperRight,
    };
    chart
        .configure_series_labels()
        .position(corner)
        .margin(12)
        .legend_area_size(32)
        .label_font(("sans-serif", 16))
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.4))
        .draw()
}

impl Axis {
    fn check(&self) -> Result<(), String> {
        let Self { label, range: Range { start, end }, scale } = self;
        if !(start.is_finite() && end.is_finite() && start < end) {
            return Err(format!("the axis `{label}` cannot go from {start} to {end}: give it an extent"));
        }
        if *scale == Scale::Log && *start <= 0.0 {
            return Err(format!("the axis `{label}` is logarithmic and cannot begin at {start}: begin above 0"));
        }
        Ok(())
    }

    /// How far along the axis a value lies: 0 at its beginning, 1 at its end, and never outside.
    fn place(&self, value: f64) -> f64 {
        let Range { start, end } = self.range;
        let part = match self.scale {
            Scale::Linear => (value - start) / (end - start),
            Scale::Log => (value.max(f64::MIN_POSITIVE) / start).ln() / (end / start).ln(),
        };
        part.clamp(0.0, 1.0)
    }

    /// The values that get a label: round ones, at most `most`, the finest such division.
    fn labelled(&self, most: usize) -> Vec<f64> {
        let divisions: Vec<Vec<f64>> = match self.scale {
            Scale::Linear => {
                let step = 10_f64.powf((self.range.end - self.range.start).log10().floor() - 2.0);
                let factors = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
                factors.map(|factor| self.multiples(step * factor)).into()
            }
            Scale::Log => {
                let within: [&[f64]; 3] = [&[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
                within.map(|within| self.decades(within)).into()
            }
        };
        divisions.into_iter().find(|ticks| ticks.len() <= most).unwrap_or_default()
    }

    /// The values that get a thin line.
    fn ruled(&self, most: usize) -> Vec<f64> {
        match self.scale {
            Scale::Linear => self.labelled(most),
            Scale::Log => self.decades(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]),
        }
    }

    fn multiples(&self, step: f64) -> Vec<f64> {
        let first = (self.range.start / step - 1e-9).ceil() as i64;
        let last = (self.range.end / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }

    fn decades(&self, within: &[f64]) -> Vec<f64> {
        let exponents = self.range.start.log10().floor() as i32..=self.range.end.log10().ceil() as i32;
        let all = exponents.flat_map(|exponent| within.iter().map(move |factor| factor * 10_f64.powi(exponent)));
        let slack = 1e-9;
        all.filter(|v| *v >= self.range.start * (1.0 - slack) && *v <= self.range.end * (1.0 + slack)).collect()
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.place(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.ruled(hint.max_num_points())
        } else {
            self.labelled(hint.max_num_points())
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    /// As many digits as the value needs, without the dust of binary fractions; thousands are set apart.
    fn format_ext(&self, value: &f64) -> String {
        let rounded = format!("{value:.6}");
        let plain = rounded.trim_end_matches('0').trim_end_matches('.');
        let (whole, fraction) = plain.split_once('.').map_or((plain, ""), |(whole, fraction)| (whole, fraction));
        let mut grouped = String::new();
        for (at, digit) in whole.char_indices() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) && grouped != "-" {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(range: Range<f64>, scale: Scale) -> Axis {
        Axis { label: "time (ms)".to_owned(), range, scale }
    }

    fn figure(x: Axis) -> Figure {
        let line = Line { name: "a <line>".to_owned(), points: vec![(1.0, 0.0), (10.0, 50.0), (5000.0, 100.0)] };
        let y = Axis { label: "share (%)".to_owned(), ..axis(0.0..100.0, Scale::Linear) };
        let panel = Panel { title: "panel".to_owned(), x, y, lines: vec![line], legend: Legend::LowerRight };
        Figure { title: "figure".to_owned(), panels: vec![panel.clone(), panel] }
    }

    #[test]
    fn a_picture_has_all_its_words_and_a_white_ground() {
        let text = svg(&figure(axis(1.0..1000.0, Scale::Log))).unwrap();
        assert_eq!(text, svg(&figure(axis(1.0..1000.0, Scale::Log))).unwrap());
        for wanted in ["figure", "panel", "time (ms)", "share (%)", "a &lt;line&gt;", "1,000", "#FFFFFF", "</svg>"] {
            assert!(text.contains(wanted), "{wanted} is missing in {text}");
        }
        assert_eq!(text.matches(r##"stroke="#000000" stroke-width="2""##).count(), 4, "two lines and their keys");
    }

    #[test]
    fn axes_that_cannot_be_drawn_are_refused() {
        for (range, scale) in
            [(0.0..10.0, Scale::Log), (1.0..1.0, Scale::Linear), (2.0..1.0, Scale::Log), (0.0..f64::NAN, Scale::Linear)]
        {
            let refusal = svg(&figure(axis(range.clone(), scale))).unwrap_err();
            assert!(refusal.contains("time (ms)"), "{range:?}: {refusal}");
        }
    }

    #[test]
    fn ticks_are_round_and_few() {
        let log = axis(100.0..100_000.0, Scale::Log);
        assert_eq!(log.labelled(12), [100., 200., 500., 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5]);
        assert_eq!(log.labelled(4), [100.0, 1e3, 1e4, 1e5]);
        let linear = axis(0.0..600.0, Scale::Linear);
        assert_eq!(linear.labelled(8), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0]);
        assert_eq!(linear.labelled(2), [0.0, 500.0]);
    }

    #[test]
    fn values_lie_where_they_belong_and_never_outside() {
        let log = axis(1.0..10_000.0, Scale::Log);
        assert_eq!([log.map(&100.0, (0, 400)), log.map(&0.0, (0, 400)), log.map(&1e9, (0, 400))], [200, 0, 400]);
        // The vertical axis runs upwards.
        assert_eq!(axis(0.0..100.0, Scale::Linear).map(&25.0, (400, 0)), 300);
    }

    #[test]
    fn labels_are_plain_numbers() {
        let axis = axis(0.0..1.0, Scale::Linear);
        let texts = [0.1 + 0.2, 1e5, 1_234_567.0, -100.0, -1000.0, 0.0].map(|value| axis.format_ext(&value));
        assert_eq!(texts, ["0.3", "100,000", "1,234,567", "-100", "-1,000", "0"]);
    }
}
