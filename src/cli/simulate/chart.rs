//! Charts as inline SVG. Pure: figures in, text out. Lines differ by dash and marker as well as by colour, and every line is
//! named at its end, so that nobody needs to tell colours apart.

use std::fmt::Write as _;

use crate::simulate::Mark;

const WIDTH: f64 = 660.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 38.0;

/// Lines whose styles differ; further ones begin anew.
const STYLES: usize = 6;
/// Dashes by style. The first, the base line, is broad and lies under the others.
const DASHES: [&str; STYLES] = ["none", "none", "8 3", "8 3 2 3", "4 2", "12 4"];
/// More marks than these are drawn without their names.
const MARKS_NAMED: usize = 8;
/// Letters of a label that fit beside a chart: "balance preset=calm" does.
const LABEL: usize = 21;
/// Names of marks keep this distance.
const MARK_WIDTH: f64 = 36.0;
/// Names at lines' ends keep this distance.
const LINE_HEIGHT: f64 = 12.0;

/// One policy's figures.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// What a chart shows.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) x_label: &'a str,
    pub(super) y_label: &'a str,
    /// The least that the y axis shows.
    pub(super) y_from: f64,
    /// The most that it shows at least.
    pub(super) y_to: f64,
    pub(super) lines: Vec<Line>,
}

/// From figures to places.
struct Scale {
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - TOP - BOTTOM)
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Distances between ticks that people can read: 1, 2 or 5 times a power of ten.
fn tick_step(span: f64, ticks: f64) -> f64 {
    let raw = span / ticks;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| raw <= step * power).unwrap_or(10.0);
    step * power
}

fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 4.0) as usize;
    format!("{value:.decimals$}")
}

impl Chart<'_> {
    /// Lines over time, with what disturbed the balance.
    pub(super) fn over_time(&self, hours: f64, warm_up: f64, marks: &[Mark]) -> String {
        let scale = Scale { x: (0.0, hours), y: self.y_range() };
        let mut svg = self.open(&scale);
        if warm_up > 0.0 {
            let (from, to) = (scale.x(0.0), scale.x(warm_up));
            let height = HEIGHT - TOP - BOTTOM;
            let _ = write!(
                svg,
                r#"<rect class="warm" x="{from:.1}" y="{TOP}" width="{:.1}" height="{height}"><title>warm-up, not measured</title></rect>"#,
                to - from
            );
        }
        draw_marks(&mut svg, &scale, marks);
        for (place, line) in self.lines.iter().enumerate() {
            let style = place % STYLES;
            let path = path(&scale, &line.points);
            let _ = write!(
                svg,
                r#"<path class="line s{style}" stroke-dasharray="{}" d="{path}"><title>{}</title></path>"#,
                DASHES[style],
                escape(&line.label)
            );
        }
        self.name_lines(&mut svg, &scale);
        svg.push_str("</svg></figure>");
        svg
    }

    /// Points and the diagonal on which both axes say the same.
    pub(super) fn scatter(&self) -> String {
        let range = self.y_range();
        let scale = Scale { x: range, y: range };
        let mut svg = self.open(&scale);
        let (from, to) = ((scale.x(range.0), scale.y(range.0)), (scale.x(range.1), scale.y(range.1)));
        let _ = write!(
            svg,
            r#"<path class="diagonal" d="M{:.1} {:.1}L{:.1} {:.1}"><title>as predicted</title></path>"#,
            from.0, from.1, to.0, to.1
        );
        for (place, line) in self.lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
            let style = place % STYLES;
            for (x, y) in &line.points {
                svg.push_str(&marker(style, scale.x(*x), scale.y(*y)));
            }
            let y = TOP + 6.0 + LINE_HEIGHT * place as f64;
            svg.push_str(&marker(style, WIDTH - RIGHT + 12.0, y - 4.0));
            let _ = write!(svg, r#"<text x="{:.1}" y="{y:.1}">{}</text>"#, WIDTH - RIGHT + 20.0, short(&line.label));
        }
        svg.push_str("</svg></figure>");
        svg
    }

    /// Up to the largest value, in whole steps.
    fn y_range(&self) -> (f64, f64) {
        let values = self.lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).filter(|y| y.is_finite());
        let most = values.fold(self.y_to, f64::max);
        let step = tick_step(most - self.y_from, 4.0);
        (self.y_from, self.y_from + ((most - self.y_from) / step).ceil() * step)
    }

    /// The figure with its axes.
    fn open(&self, scale: &Scale) -> String {
        let mut svg = format!(
            r#"<figure><figcaption>{}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            escape(self.title),
            escape(self.title)
        );
        let bottom = HEIGHT - BOTTOM;
        let step = tick_step(scale.y.1 - scale.y.0, 4.0);
        for tick in ticks(scale.y, step) {
            let y = scale.y(tick);
            let _ = write!(
                svg,
                r#"<path class="grid" d="M{LEFT} {y:.1}H{:.1}"/><text class="end" x="{:.1}" y="{:.1}">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5,
                number(tick, step)
            );
        }
        let step = tick_step(scale.x.1 - scale.x.0, 8.0);
        for tick in ticks(scale.x, step) {
            let x = scale.x(tick);
            let _ = write!(
                svg,
                r#"<path class="tick" d="M{x:.1} {bottom}v4"/><text class="middle" x="{x:.1}" y="{:.1}">{}</text>"#,
                bottom + 15.0,
                number(tick, step)
            );
        }
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let height = (TOP + bottom) / 2.0;
        let _ = write!(
            svg,
            r#"<path class="axis" d="M{LEFT} {TOP}V{bottom}H{:.1}"/><text class="middle name" x="{middle:.1}" y="{:.1}">{}</text><text class="middle name" transform="rotate(-90 12 {height:.1})" x="12" y="{height:.1}">{}</text>"#,
            WIDTH - RIGHT,
            HEIGHT - 6.0,
            escape(self.x_label),
            escape(self.y_label)
        );
        svg
    }

    /// Each line's name beside its end, moved apart where they would overlap.
    fn name_lines(&self, svg: &mut String, scale: &Scale) {
        let mut ends: Vec<(f64, usize)> = self
            .lines
            .iter()
            .enumerate()
            .filter_map(|(place, line)| {
                let (_, y) = line.points.iter().rev().find(|(_, y)| y.is_finite())?;
                Some((scale.y(*y), place))
            })
            .collect();
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        let room = HEIGHT - BOTTOM - LINE_HEIGHT * ends.len() as f64;
        let mut above = f64::MIN;
        for (nth, (end, place)) in ends.into_iter().enumerate() {
            let y = end.max(above + LINE_HEIGHT).min(room + LINE_HEIGHT * (nth as f64 + 1.0));
            above = y;
            let style = place % STYLES;
            let x = WIDTH - RIGHT + 4.0;
            let _ = write!(
                svg,
                r#"<path class="line s{style}" stroke-dasharray="{}" d="M{x:.1} {y:.1}h18"/><text class="s{style}" x="{:.1}" y="{:.1}">{}</text>"#,
                DASHES[style],
                x + 22.0,
                y + 3.5,
                short(&self.lines[place].label)
            );
        }
    }
}

fn ticks((from, to): (f64, f64), step: f64) -> impl Iterator<Item = f64> {
    let first = (from / step).ceil();
    (0..50).map(move |number| (first + f64::from(number)) * step).take_while(move |tick| *tick <= to + step * 1e-6)
}

/// What fits beside the chart.
fn short(label: &str) -> String {
    if label.chars().count() <= LABEL {
        return escape(label);
    }
    let short: String = label.chars().take(LABEL - 1).collect();
    escape(&format!("{short}…"))
}

fn path(scale: &Scale, points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    let mut last = None;
    for (x, y) in points.iter().filter(|(_, y)| y.is_finite()) {
        let (x, y) = (scale.x(*x), scale.y(*y));
        let word = if last.is_none() { 'M' } else { 'L' };
        let _ = write!(path, "{word}{x:.1} {y:.1}");
        last = Some(y);
    }
    path
}

fn draw_marks(svg: &mut String, scale: &Scale, marks: &[Mark]) {
    let shown = marks.iter().filter(|mark| mark.at_hours > 0.0 && mark.at_hours <= scale.x.1);
    // Names by the place where they stand: those too near to the last one are written after it.
    let mut names: Vec<(f64, String)> = Vec::new();
    for mark in shown {
        let x = scale.x(mark.at_hours);
        let name = escape(&mark.name);
        let _ =
            write!(svg, r#"<path class="mark" d="M{x:.1} {TOP}V{:.1}"><title>{name}</title></path>"#, HEIGHT - BOTTOM);
        match names.last_mut() {
            Some((last, before)) if x - *last < MARK_WIDTH => *before = format!("{before}, {name}"),
            _ => names.push((x, name)),
        }
    }
    if names.len() <= MARKS_NAMED {
        for (x, name) in names {
            let _ = write!(svg, r#"<text class="middle mark" x="{x:.1}" y="{:.1}">{name}</text>"#, TOP - 5.0);
        }
    }
}

/// A sign for a point, of another shape for each style.
fn marker(style: usize, x: f64, y: f64) -> String {
    let shape = match style % 4 {
        1 => format!("M{:.1} {y:.1}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0", x - 3.5),
        2 => format!("M{:.1} {:.1}h6v6h-6z", x - 3.0, y - 3.0),
        3 => format!("M{x:.1} {:.1}l4 7h-8z", y - 4.0),
        _ => format!("M{x:.1} {:.1}l4 4l-4 4l-4 -4z", y - 4.0),
    };
    format!(r#"<path class="point s{style}" d="{shape}"/>"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        assert_eq!(tick_step(1.0, 4.0), 0.5);
        assert_eq!(tick_step(24.0, 8.0), 5.0);
        assert_eq!(ticks((1.0, 2.0), 0.5).collect::<Vec<_>>(), [1.0, 1.5, 2.0]);
        assert_eq!((number(1.5, 0.5), number(20.0, 5.0)), ("1.5".to_owned(), "20".to_owned()));
    }

    #[test]
    fn marks_at_nearly_the_same_time_share_a_line_of_names() {
        let mark = |at_hours, name: &str| Mark { at_hours, name: name.to_owned(), disturbs: true };
        let marks = [mark(0.5, "stuck"), mark(0.51, "join"), mark(0.9, "fail")];
        let lines = vec![Line { label: "none".to_owned(), points: vec![(0.0, 1.0), (1.0, 1.0)] }];
        let chart = Chart { title: "t", x_label: "x", y_label: "y", y_from: 1.0, y_to: 1.1, lines };
        let svg = chart.over_time(1.0, 0.0, &marks);
        assert!(svg.contains(">stuck, join</text>") && svg.contains(">fail</text>"), "{svg}");
    }

    #[test]
    fn names_at_the_ends_of_lines_do_not_overlap() {
        let line = |label: &str| Line { label: label.to_owned(), points: vec![(0.0, 1.0), (1.0, 1.0)] };
        let lines = ["none", "balance", "a<b"].map(line).into();
        let chart = Chart { title: "t", x_label: "x", y_label: "y", y_from: 1.0, y_to: 1.1, lines };
        let svg = chart.over_time(1.0, 0.0, &[]);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        let places: std::collections::BTreeSet<&str> = svg
            .split("<text class=\"s")
            .skip(1)
            .filter_map(|text| text.split("y=\"").nth(1)?.split('"').next())
            .collect();
        assert_eq!(places.len(), 3, "{svg}");
    }
}
