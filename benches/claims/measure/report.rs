//! Figures and the table of the results.

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

/// The target for the median of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// The figure has no target; it explains another one.
    None,
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) claim: &'static str,
    pub(crate) what: String,
    pub(crate) figure: Figure,
    pub(crate) target: Target,
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
            target: Target::None,
        }
    }

    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.target = Target::AtLeast(least);
        self
    }

    pub(crate) fn at_most(mut self, most: f64) -> Self {
        self.target = Target::AtMost(most);
        self
    }

    /// The line in Markdown.
    pub(crate) fn shown(&self) -> String {
        let median = self.figure.median();
        let (target, met) = match self.target {
            Target::AtLeast(least) => (format!("≥ {least}"), median >= least),
            Target::AtMost(most) => (format!("≤ {most}"), median <= most),
            Target::None => (String::new(), true),
        };
        let verdict = match (self.target, met) {
            (Target::None, _) => "",
            (_, true) => "yes",
            (_, false) => "**no**",
        };
        let figure = self.figure.shown();
        format!(
            "| {} | {} | {figure} | {target} | {verdict} |",
            self.claim, self.what
        )
    }
}

/// The head of the table.
pub(crate) const HEAD: &str = "| claim | figure: median (least to most over the rounds) | measured | target | met |\n\
                               | --- | --- | --- | --- | --- |";

/// The quantile `part` of `times`, in milliseconds.
pub(crate) fn quantile_ms(times: &mut [Duration], part: f64) -> f64 {
    times.sort_unstable();
    let index = (times.len() as f64 * part) as usize;
    times[index.min(times.len() - 1)].as_secs_f64() * 1e3
}
