//! The curves of the report.

use std::path::Path;

use plotters::prelude::*;
use reverie::{Failure, names};

use super::arms::{Arm, MOST_NEIGHBOURS, Memory, RATIOS, SAMPLERS, STRATEGIES};
use super::report::{Figure, Results};
use super::scores::Summary;
use super::statistics::Estimate;

const SIZE: (u32, u32) = (720, 400);
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x5f, 0x27),
    RGBColor(0x2c, 0x8c, 0x4a),
    RGBColor(0x8a, 0x4f, 0xa8),
];

struct Series {
    name: String,
    points: Vec<(f64, Estimate)>,
}

/// The y axis.
struct Axis {
    label: &'static str,
    top: f64,
}

const SHARE: Axis = Axis { label: "per cent", top: 100.0 };
/// A sampler that loses its pictures is far above.
const DISTANCE: Axis = Axis { label: "kernel distance, times 100", top: 15.0 };

/// Writes the plots whose arms were drawn.
pub(super) fn write(results: &Results, out: &Path) -> Result<Vec<Figure>, Failure> {
    let ratios = RATIOS.map(|ratio| (f64::from(ratio), Arm::at_ratio(ratio)));
    let counts: Vec<_> = (0..=MOST_NEIGHBOURS).map(|k| (f64::from(k), Arm::with_neighbours(k))).collect();
    let strategies = |value| {
        STRATEGIES.map(|strategy| {
            by_evaluations(results, names::name(strategy), value, |arm| arm.strategy == Some(strategy))
        })
    };
    let samplers = |value| {
        SAMPLERS.map(|sampler| {
            by_evaluations(results, names::name(sampler), value, |arm| {
                arm.sampler == Some(sampler) && arm.strategy.is_none()
            })
        })
    };
    let evaluations = "evaluations of the base model";
    let plots = [
        (
            "ratio.svg",
            "Faithfulness and text against the interleave ratio",
            "interleave ratio",
            SHARE,
            &faithful_and_text(results, &ratios)[..],
        ),
        (
            "neighbours.svg",
            "Faithfulness and text against the number of neighbours",
            "neighbours",
            SHARE,
            &faithful_and_text(results, &counts),
        ),
        (
            "steps.svg",
            "Faithfulness against evaluations of the base model, by guidance strategy",
            evaluations,
            SHARE,
            &strategies(faithful),
        ),
        (
            "steps-distance.svg",
            "Kernel distance from true drawings against evaluations of the base model, by guidance strategy",
            evaluations,
            DISTANCE,
            &strategies(distance),
        ),
        (
            "samplers.svg",
            "Faithfulness against evaluations of the base model, by sampler",
            evaluations,
            SHARE,
            &samplers(faithful),
        ),
        (
            "samplers-distance.svg",
            "Kernel distance from true drawings against evaluations of the base model, by sampler",
            evaluations,
            DISTANCE,
            &samplers(distance),
        ),
    ];
    let mut figures = Vec::new();
    for (file, told, label, axis, series) in plots {
        // A line has two points.
        if series.iter().any(|series| series.points.len() > 1) {
            plot(&out.join(file), label, &axis, series)?;
            figures.push(Figure { file, told: told.to_owned() });
        }
    }
    Ok(figures)
}

fn faithful(summary: &Summary) -> Estimate {
    summary.faithful
}

/// Without an interval.
fn distance(summary: &Summary) -> Estimate {
    Estimate { mean: summary.kernel_distance, low: f64::NAN, high: f64::NAN }
}

/// A value of some arms with the creature's own pictures, against their evaluations.
fn by_evaluations(
    results: &Results,
    name: String,
    value: fn(&Summary) -> Estimate,
    these: impl Fn(&Arm) -> bool,
) -> Series {
    let arms = results.arms.iter().zip(&results.summaries);
    let these = arms.filter(|(arm, _)| arm.memory == Memory::Oracle && these(arm));
    Series { name, points: these.map(|(_, summary)| (summary.evaluations, value(summary))).collect() }
}

fn faithful_and_text(results: &Results, arms: &[(f64, Arm)]) -> [Series; 2] {
    let drawn = || arms.iter().filter_map(|(x, arm)| Some((*x, results.summary(arm)?)));
    [
        Series {
            name: "faithful".to_owned(),
            points: drawn().map(|(x, summary)| (x, summary.faithful)).collect(),
        },
        Series { name: "text".to_owned(), points: drawn().map(|(x, summary)| (x, summary.text)).collect() },
    ]
}

/// Values times 100, with their intervals as bars. Points above the axis are left out.
fn plot(path: &Path, label: &str, axis: &Axis, series: &[Series]) -> Result<(), Failure> {
    let right = series.iter().flat_map(|series| &series.points).map(|(x, _)| *x).fold(0.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..right * 1.03, 0.0..axis.top)?;
    chart.configure_mesh().x_desc(label).y_desc(axis.label).light_line_style(WHITE).draw()?;
    for (series, colour) in series.iter().zip(COLOURS) {
        let mut points: Vec<(f64, Estimate)> = series.points.clone();
        points.retain(|(_, estimate)| 100.0 * estimate.mean <= axis.top);
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let line = points.iter().map(|(x, estimate)| (*x, 100.0 * estimate.mean));
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(2)))?
            .label(series.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let known = points.iter().filter(|(_, estimate)| estimate.low.is_finite());
        chart.draw_series(known.map(|(x, estimate)| {
            let [mean, low, high] = estimate.percent();
            ErrorBar::new_vertical(*x, low, mean, high, colour.filled(), 6)
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}
