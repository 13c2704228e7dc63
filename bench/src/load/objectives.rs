//! What a run must hold to, such as `latency_p99<=2.5`.

use std::str::FromStr;

use super::figures::Figures;

/// One objective.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    figure: &'static str,
    at_most: bool,
    bound: f64,
}

type Read = fn(&Figures, f64) -> Option<f64>;

/// What can be bounded, and how it is read from the figures of a run and the peak.
const FIGURES: [(&str, Read); 11] = [
    ("goodput", |figures, _| Some(figures.goodput)),
    ("goodput_of_peak", |figures, peak| Some(figures.of_peak(peak))),
    ("latency_p50", |figures, _| figures.latency.at(0.5)),
    ("latency_p95", |figures, _| figures.latency.at(0.95)),
    ("latency_p99", |figures, _| figures.latency.at(0.99)),
    ("refusal_p99", |figures, _| figures.refusal.at(0.99)),
    ("refused", |figures, _| Some(figures.refused as f64 / figures.calls as f64)),
    ("late", |figures, _| Some(figures.late as f64 / figures.calls as f64)),
    ("failed", |figures, _| Some(figures.failed() as f64 / figures.calls as f64)),
    ("wasted", |figures, _| figures.wasted),
    ("recovery", |figures, _| figures.recovery),
];

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (at_most, parts) = match (text.split_once("<="), text.split_once(">=")) {
            (Some(parts), None) => (true, parts),
            (None, Some(parts)) => (false, parts),
            _ => return Err("write FIGURE<=NUMBER or FIGURE>=NUMBER".to_owned()),
        };
        let known = FIGURES.iter().find(|(name, _)| *name == parts.0.trim());
        let (figure, _) = known.ok_or_else(|| {
            let names: Vec<_> = FIGURES.iter().map(|(name, _)| *name).collect();
            format!("the figures are {}", names.join(", "))
        })?;
        let bound = parts.1.trim().parse::<f64>().ok().filter(|bound| bound.is_finite());
        let bound = bound.ok_or_else(|| format!("{:?} is not a number", parts.1))?;
        Ok(Self { figure, at_most, bound })
    }
}

impl Objective {
    /// Why `figures` misses it. A figure that a run does not have (no refusal, no refusal latency) misses nothing, except that
    /// of latency: without an image, nothing was fast.
    pub(super) fn missed(&self, figures: &Figures, peak: f64) -> Option<String> {
        let (_, read) = FIGURES.iter().find(|(name, _)| *name == self.figure)?;
        let (sign, bound) = (if self.at_most { "<=" } else { ">=" }, self.bound);
        let told = |value: &dyn std::fmt::Display| {
            Some(format!("{}: {} is {value}, not {sign} {bound}", figures.name, self.figure))
        };
        match read(figures, peak) {
            None if self.figure.starts_with("latency") => told(&"unknown: no image was drawn"),
            None => None,
            Some(value) if self.at_most && value <= bound || !self.at_most && value >= bound => None,
            Some(value) => told(&format_args!("{value:.4}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::calls::{Call, End};
    use super::*;

    #[test]
    fn a_bound_is_held_or_missed() {
        let drawn = Call {
            kind: 0,
            due: Duration::ZERO,
            made: Duration::ZERO,
            ended: Duration::from_secs(2),
            end: End::Drawn(std::collections::BTreeMap::new()),
        };
        let late = Call { end: End::Late, ..drawn.clone() };
        let figures = Figures::of("twice".into(), &[drawn, late.clone()], None);
        let missed = |text: &str| text.parse::<Objective>().unwrap().missed(&figures, 1.0);
        for held in ["latency_p99<=2.1", "goodput>=0.5", "late<=0.5", "refusal_p99 <= 0.05", "wasted<=0.1"] {
            assert_eq!(missed(held), None, "{held}");
        }
        assert_eq!(missed("late<=0.1").unwrap(), "twice: late is 0.5000, not <= 0.1");
        assert_eq!(missed("goodput_of_peak>=0.9").unwrap(), "twice: goodput_of_peak is 0.5000, not >= 0.9");
        let mut stuck = figures.clone();
        stuck.recovery = Some(f64::INFINITY);
        let told = "recovery<=10".parse::<Objective>().unwrap().missed(&stuck, 1.0);
        assert_eq!(told.unwrap(), "twice: recovery is inf, not <= 10");
        let none = Figures::of("none".into(), &[late], None);
        for unmet in ["latency_p50<=9", "goodput_of_peak>=0.9"] {
            assert!(unmet.parse::<Objective>().unwrap().missed(&none, 0.0).is_some(), "{unmet}");
        }
    }

    #[test]
    fn what_is_no_objective_is_told() {
        for (text, told) in [
            ("goodput", "FIGURE<=NUMBER"),
            ("speed>=3", "the figures are goodput, goodput_of_peak"),
            ("late<=few", "\"few\" is not a number"),
            ("late<=inf", "\"inf\" is not a number"),
        ] {
            assert!(text.parse::<Objective>().unwrap_err().contains(told), "{text}");
        }
    }
}
