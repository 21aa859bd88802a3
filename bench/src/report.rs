//! Rows of results, as a table for people or as JSON.

use crate::contest::Figures;
use serde::Serialize;
use std::fmt::Write;

/// One comparison, or one figure of ours with nobody to compare with.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Our best window, in nanoseconds per operation.
    pub ours_ns: f64,
    /// Whom we compare with.
    pub peer: Option<&'static str>,
    /// The peer's best window, in nanoseconds per operation.
    pub peer_ns: Option<f64>,
    /// The peer's time by ours: above 1, ours is faster.
    pub ratio: Option<f64>,
    /// The same of the median windows.
    #[serde(skip)]
    pub median_ratio: Option<f64>,
    /// The least ratio that meets the project's goal.
    #[serde(skip)]
    pub target: Option<f64>,
}

impl Row {
    /// A figure of ours alone.
    #[must_use]
    pub fn alone(name: String, ours_ns: f64) -> Self {
        Self { name, ours_ns, peer: None, peer_ns: None, ratio: None, median_ratio: None, target: None }
    }

    /// A comparison with a goal, if it has one.
    #[must_use]
    pub fn against(
        name: String,
        peer: &'static str,
        (ours, theirs): (Figures, Figures),
        target: Option<f64>,
    ) -> Self {
        Self {
            name,
            ours_ns: ours.best,
            peer: Some(peer),
            peer_ns: Some(theirs.best),
            ratio: Some(theirs.best / ours.best),
            median_ratio: Some(theirs.median / ours.median),
            target,
        }
    }

    /// The geometric mean of rows, all of which are comparisons with the same peer.
    #[must_use]
    pub fn mean(name: &str, peer: &'static str, rows: &[Self], target: Option<f64>) -> Self {
        let figures = |of: fn(&Self) -> Option<f64>| geometric_mean(rows.iter().filter_map(of));
        Self {
            name: name.to_owned(),
            ours_ns: figures(|row| Some(row.ours_ns)),
            peer: Some(peer),
            peer_ns: Some(figures(|row| row.peer_ns)),
            ratio: Some(figures(|row| row.ratio)),
            median_ratio: Some(figures(|row| row.median_ratio)),
            target,
        }
    }
}

/// The geometric mean of some values: of ratios, the one mean that does not depend on which side is the divisor.
fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    f64::exp(sum / count)
}

/// All rows under headings.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let mut out = String::new();
    let headings = ["ours ns", "peer", "peer ns", "ratio", "(median)", "target met?"];
    let [ours, peer, peer_ns, ratio, median, met] = headings;
    let _ = writeln!(
        out,
        "{:width$} {ours:>8}  {peer:18} {peer_ns:>8} {ratio:>6} {median:>8}  {met}",
        "operation"
    );
    for row in rows {
        let met = match row.ratio.zip(row.target) {
            None => String::new(),
            Some((ratio, target)) if ratio >= target => format!("yes (>= {target:.2})"),
            Some((_, target)) => format!("NO (>= {target:.2})"),
        };
        let _ = writeln!(
            out,
            "{:width$} {:>8.2}  {:18} {:>8} {:>6} {:>8}  {met}",
            row.name,
            row.ours_ns,
            row.peer.unwrap_or("-"),
            number(row.peer_ns),
            number(row.ratio),
            number(row.median_ratio),
        );
    }
    out
}
