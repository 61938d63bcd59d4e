//! Figures and the table of the results.

use std::fmt;
use std::time::Duration;

/// The values of one figure, one for each round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure(Vec<f64>);

impl Figure {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    /// The values divided by the values of `other` in the same round.
    pub(crate) fn over(&self, other: &Self) -> Self {
        let both = self.0.iter().zip(&other.0);
        Self(both.map(|(ours, theirs)| ours / theirs).collect())
    }

    fn shown(&self) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if self.0.len() == 1 {
            return brief(self.median());
        }
        format!(
            "{} ({} to {})",
            brief(self.median()),
            brief(least),
            brief(most)
        )
    }
}

impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

impl FromIterator<f64> for Figure {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        Self(values.into_iter().collect())
    }
}

fn brief(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What the median of a figure must be.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn is_met(self, median: f64) -> bool {
        match self {
            Self::AtLeast(least) => median >= least,
            Self::AtMost(most) => median <= most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    claim: &'static str,
    what: String,
    figure: Figure,
    /// A figure without a target explains another one.
    target: Option<Bound>,
    /// Is stricter than the target.
    aim: Option<Bound>,
}

impl Row {
    pub(crate) fn new(
        claim: &'static str,
        what: impl Into<String>,
        figure: impl Into<Figure>,
    ) -> Self {
        Self {
            claim,
            what: what.into(),
            figure: figure.into(),
            target: None,
            aim: None,
        }
    }

    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.target = Some(Bound::AtLeast(least));
        self
    }

    pub(crate) fn at_most(mut self, most: f64) -> Self {
        self.target = Some(Bound::AtMost(most));
        self
    }

    /// Adds a stricter value, which the design asks for or a machine without other guests reaches.
    pub(crate) fn aim(mut self, value: f64) -> Self {
        self.aim = Some(match self.target.expect("only a target has an aim") {
            Bound::AtLeast(_) => Bound::AtLeast(value),
            Bound::AtMost(_) => Bound::AtMost(value),
        });
        self
    }

    /// Whether the target is missed. An aim may be missed.
    pub(crate) fn is_missed(&self) -> bool {
        let median = self.figure.median();
        self.target.is_some_and(|target| !target.is_met(median))
    }

    /// The line in Markdown.
    pub(crate) fn shown(&self) -> String {
        let shown = |bound: Option<Bound>| bound.map_or_else(String::new, |it| it.to_string());
        let median = self.figure.median();
        let met = match (self.target, self.aim) {
            (None, _) => "",
            (Some(_), _) if self.is_missed() => "**no**",
            (Some(_), Some(aim)) if !aim.is_met(median) => "yes; the aim no",
            (Some(_), _) => "yes",
        };
        let Self { claim, what, .. } = self;
        let (figure, target, aim) = (self.figure.shown(), shown(self.target), shown(self.aim));
        format!("| {claim} | {what} | {figure} | {target} | {aim} | {met} |")
    }
}

/// The head of the table.
pub(crate) const HEAD: &str = "| claim | figure: median (least to most over the rounds) | measured | target | aim | met |\n\
                               | --- | --- | --- | --- | --- | --- |";

/// The quantile `part` of `times`, in milliseconds.
pub(crate) fn quantile_ms(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let index = (times.len() as f64 * part) as usize;
    times[index.min(times.len() - 1)].as_secs_f64() * 1e3
}
