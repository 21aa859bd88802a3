//! Figures with goals, as a table for people or as JSON.

use serde::Serialize;
use std::fmt::Write;

/// What a figure may be at most.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Less than this, in the unit of the figure.
    Below(f64),
    /// The ratio to the peer at most this.
    Ratio(f64),
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    /// What was measured.
    pub name: String,
    /// How much it is.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// Whom we compare with.
    pub peer: Option<&'static str>,
    /// How much it is there.
    pub peer_value: Option<f64>,
    /// Ours by the peer's: below 1, ours is less.
    pub ratio: Option<f64>,
    /// What is to be reached.
    pub goal: Option<Goal>,
    /// Whether it is.
    pub met: Option<bool>,
}

impl Measure {
    /// A figure alone, to be below `limit` if there is one.
    #[must_use]
    pub fn alone(name: &str, value: f64, unit: &'static str, limit: Option<f64>) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
            peer: None,
            peer_value: None,
            ratio: None,
            goal: limit.map(Goal::Below),
            met: limit.map(|limit| value < limit),
        }
    }

    /// A figure by the peer's, to be at most `limit` times that if there is a limit.
    #[must_use]
    pub fn against(
        name: &str,
        value: f64,
        unit: &'static str,
        (peer, peer_value): (&'static str, f64),
        limit: Option<f64>,
    ) -> Self {
        let ratio = value / peer_value;
        Self {
            peer: Some(peer),
            peer_value: Some(peer_value),
            ratio: Some(ratio),
            goal: limit.map(Goal::Ratio),
            met: limit.map(|limit| ratio <= limit),
            ..Self::alone(name, value, unit, None)
        }
    }

    fn verdict(&self) -> String {
        let goal = match self.goal {
            Some(Goal::Below(limit)) => format!("< {limit} {}", self.unit),
            Some(Goal::Ratio(limit)) => format!("<= {limit:.2}x"),
            None => return String::new(),
        };
        if self.met == Some(true) { format!("yes ({goal})") } else { format!("NO ({goal})") }
    }
}

/// All figures under headings.
#[must_use]
pub fn table(measures: &[Measure]) -> String {
    let width = measures.iter().map(|measure| measure.name.chars().count()).max().unwrap_or(0);
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:width$} {:>9} {:4}  {:16} {:>9} {:>6}  goal met?",
        "what", "ours", "unit", "peer", "peer's", "ratio"
    );
    for measure in measures {
        let _ = writeln!(
            out,
            "{:width$} {:>9.2} {:4}  {:16} {:>9} {:>6}  {}",
            measure.name,
            measure.value,
            measure.unit,
            measure.peer.unwrap_or("-"),
            number(measure.peer_value),
            number(measure.ratio),
            measure.verdict(),
        );
    }
    out
}
