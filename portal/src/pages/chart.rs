//! A trend as a still picture.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use crate::language::Words;
use crate::plant_link::{Columns, Stretch};

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 320.0;
/// Left for the numbers.
const MARGIN: f64 = 70.0;
const FOOT: f64 = 30.0;

/// The band from the smallest to the largest values, and the last value of each piece. Grey on white, whatever the page is:
/// a picture knows nothing of it.
pub fn picture(columns: &Columns, stretch: &Stretch, words: &Words) -> Markup {
    let (from, to) = (stretch.from.as_micros() as f64 / 1e3, stretch.to.as_micros() as f64 / 1e3);
    let least = columns.minimum.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let most = columns.maximum.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let height = if most > least { most - least } else { 1.0 };
    let x = |time: f64| MARGIN + (time - from) / (to - from) * (WIDTH - MARGIN - 10.0);
    let y = |value: f64| 10.0 + (1.0 - (value - least) / height) * (HEIGHT - FOOT - 20.0);
    let (mut band, mut line) = (String::new(), String::new());
    for run in runs(columns) {
        let middle = |at: usize| x(columns.start[at] + columns.length_seconds * 500.0);
        for (start, at) in run.iter().enumerate() {
            let value = columns.last[*at].unwrap_or(least);
            let _ = write!(line, "{}{:.1} {:.1}", if start == 0 { "M" } else { "L" }, middle(*at), y(value));
        }
        let upper = run.iter().map(|at| (*at, columns.maximum[*at]));
        let lower = run.iter().rev().map(|at| (*at, columns.minimum[*at]));
        for (corner, (at, value)) in upper.chain(lower).enumerate() {
            let letter = if corner == 0 { "M" } else { "L" };
            let _ = write!(band, "{letter}{:.1} {:.1}", middle(at), y(value.unwrap_or(least)));
        }
        band.push('Z');
    }
    let known = least.is_finite() && most.is_finite();
    html! {
        (PreEscaped(format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"14\">")))
        rect width="100%" height="100%" fill="#ffffff" {}
        @if known {
            path d=(band) fill="#b9c0c6" stroke="none" {}
            path d=(line) fill="none" stroke="#1c2126" stroke-width="1.5" {}
            text x=(MARGIN - 8.0) y=(y(most) + 5.0) text-anchor="end" fill="#4a535b" { (words.measured(most)) }
            text x=(MARGIN - 8.0) y=(y(least) + 5.0) text-anchor="end" fill="#4a535b" { (words.measured(least)) }
        } @else {
            text x=(WIDTH / 2.0) y=(HEIGHT / 2.0) text-anchor="middle" fill="#4a535b" { (words.nothing_then) }
        }
        text x=(MARGIN) y=(HEIGHT - 8.0) fill="#4a535b" { (minute(&stretch.from.to_string())) }
        text x=(WIDTH - 10.0) y=(HEIGHT - 8.0) text-anchor="end" fill="#4a535b" { (minute(&stretch.to.to_string())) }
        (PreEscaped("</svg>"))
    }
}

fn minute(time: &str) -> String {
    format!("{} UTC", time.get(..16).unwrap_or(time).replace('T', " "))
}

/// Pieces with values that follow each other closely; between two of them the line is broken.
fn runs(columns: &Columns) -> Vec<Vec<usize>> {
    let valued: Vec<usize> = (0..columns.start.len()).filter(|at| columns.last[*at].is_some()).collect();
    let mut distances: Vec<f64> =
        valued.windows(2).map(|pair| columns.start[pair[1]] - columns.start[pair[0]]).collect();
    distances.sort_by(f64::total_cmp);
    let usual = distances.get(distances.len() / 2).copied().unwrap_or(0.0).max(columns.length_seconds * 1e3);
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for at in valued {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|last| columns.start[at] - columns.start[*last] <= 3.0 * usual) => {
                run.push(at)
            }
            _ => runs.push(vec![at]),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_where_nothing_was() {
        let start: Vec<f64> = [0, 1, 2, 3, 40, 41, 42].map(|minute| f64::from(minute) * 60_000.0).into();
        let some = |value: f64| vec![Some(value); 7];
        let mut columns =
            Columns { length_seconds: 60.0, start, minimum: some(1.0), maximum: some(3.0), last: some(2.0) };
        assert_eq!(runs(&columns), [vec![0, 1, 2, 3], vec![4, 5, 6]]);
        columns.last[1] = None;
        assert_eq!(runs(&columns), [vec![0, 2, 3], vec![4, 5, 6]]);
        assert_eq!(runs(&Columns::default()), Vec::<Vec<usize>>::new());
    }
}
