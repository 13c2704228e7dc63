//! The curves of the report.

use std::path::Path;

use plotters::prelude::*;

use super::arms::{Arm, MOST_NEIGHBOURS, Memory, RATIOS, SAMPLERS, STRATEGIES, name_of};
use super::report::{Figure, Results};
use super::statistics::Estimate;
use crate::Failure;

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

/// Writes the plots whose arms were drawn.
pub(super) fn write(results: &Results, out: &Path) -> Result<Vec<Figure>, Failure> {
    let ratios = RATIOS.map(|ratio| (f64::from(ratio), Arm::at_ratio(ratio)));
    let counts: Vec<_> = (0..=MOST_NEIGHBOURS).map(|k| (f64::from(k), Arm::with_neighbours(k))).collect();
    let strategies = STRATEGIES
        .map(|strategy| by_evaluations(results, name_of(strategy), |arm| arm.strategy == Some(strategy)));
    let samplers = SAMPLERS.map(|sampler| {
        by_evaluations(results, name_of(sampler), |arm| {
            arm.sampler == Some(sampler) && arm.strategy.is_none()
        })
    });
    let evaluations = "evaluations of the base model";
    let plots = [
        (
            "ratio.svg",
            "Faithfulness and text against the interleave ratio",
            "interleave ratio",
            &faithful_and_text(results, &ratios)[..],
        ),
        (
            "neighbours.svg",
            "Faithfulness and text against the number of neighbours",
            "neighbours",
            &faithful_and_text(results, &counts),
        ),
        (
            "steps.svg",
            "Faithfulness against evaluations of the base model, by guidance strategy",
            evaluations,
            &strategies,
        ),
        (
            "samplers.svg",
            "Faithfulness against evaluations of the base model, by sampler",
            evaluations,
            &samplers,
        ),
    ];
    let mut figures = Vec::new();
    for (file, told, label, series) in plots {
        // A line has two points.
        if series.iter().any(|series| series.points.len() > 1) {
            plot(&out.join(file), label, series)?;
            figures.push(Figure { file, told: told.to_owned() });
        }
    }
    Ok(figures)
}

/// The faithfulness of some arms with the creature's own pictures, against their evaluations.
fn by_evaluations(results: &Results, name: String, these: impl Fn(&Arm) -> bool) -> Series {
    let arms = results.arms.iter().zip(&results.summaries);
    let these = arms.filter(|(arm, _)| arm.memory == Memory::Oracle && these(arm));
    Series { name, points: these.map(|(_, summary)| (summary.evaluations, summary.faithful)).collect() }
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

/// Shares in per cent, with their intervals as bars.
fn plot(path: &Path, label: &str, series: &[Series]) -> Result<(), Failure> {
    let right = series.iter().flat_map(|series| &series.points).map(|(x, _)| *x).fold(0.0, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..right * 1.03, 0.0..100.0)?;
    chart.configure_mesh().x_desc(label).y_desc("per cent").light_line_style(WHITE).draw()?;
    for (series, colour) in series.iter().zip(COLOURS) {
        let mut points: Vec<(f64, Estimate)> = series.points.clone();
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
