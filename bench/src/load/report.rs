//! Tells what came of the runs: a table, Markdown, JSON, plots.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use plotters::prelude::*;
use reverie::Failure;
use reverie_service_kit::output::OutputError;
use reverie_service_kit::say;
use serde_json::{Value, json};

use super::figures::Figures;
use super::objectives::Objective;

const SIZE: (u32, u32) = (720, 400);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x5f, 0x27),
    RGBColor(0x2c, 0x8c, 0x4a),
    RGBColor(0x8a, 0x4f, 0xa8),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0x55, 0x55, 0x55),
];
/// The shares of calls that the plot of latencies shows.
const SHARES: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0];

/// The runs of one command.
#[derive(Debug)]
pub(super) struct Report {
    runs: Vec<Figures>,
    alone: Duration,
    /// The highest goodput of all runs, images per second.
    peak: f64,
}

impl Report {
    pub(super) fn new(runs: Vec<Figures>, alone: Duration) -> Self {
        let peak = runs.iter().map(|run| run.goodput).fold(0.0, f64::max);
        Self { runs, alone, peak }
    }

    /// The objectives that a run misses. Where open loops follow the closed one that finds the capacity, they are meant.
    pub(super) fn missed(&self, objectives: &[Objective]) -> Vec<String> {
        let of_run = |run| objectives.iter().filter_map(move |objective| objective.missed(run, self.peak));
        self.runs.iter().skip(usize::from(self.runs.len() > 1)).flat_map(of_run).collect()
    }

    pub(super) fn print(&self, as_json: bool) -> Result<(), OutputError> {
        if as_json { say!("{}", self.json()) } else { say!("{}", self.table().trim_end()) }
    }

    /// Writes `load.md`, `load.json`, `latency.svg` and, of several runs, `goodput.svg`.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder)?;
        let mut text = format!("# Load\n\n{}.\n\n{}", machine(), self.table());
        let mut figure = |file: &str, told: &str| {
            let _ = writeln!(text, "\n![{told}]({file})");
        };
        if self.runs.len() > 1 {
            self.plot_goodput(&folder.join("goodput.svg"))?;
            figure("goodput.svg", "Images per second that came in time, against calls per second");
        }
        self.plot_latency(&folder.join("latency.svg"))?;
        figure("latency.svg", "Latency against the share of the images that took no longer");
        std::fs::write(folder.join("load.md"), text)?;
        Ok(std::fs::write(folder.join("load.json"), format!("{:#}\n", self.json()))?)
    }

    fn json(&self) -> Value {
        let runs: Vec<_> = self.runs.iter().map(|run| run.json(self.peak)).collect();
        json!({
            "machine": machine(), "alone_seconds": self.alone.as_secs_f64(), "peak_per_second": self.peak, "runs": runs,
        })
    }

    /// In Markdown.
    fn table(&self) -> String {
        let mut text = format!(
            "One image alone takes {:.3} s. Times are in seconds; a latency counts from when the call was due.\n\n\
             | run | calls/s | images | images/s (of peak) | refused (p99) | late | dropped | failed \
             | latency mean | p50 | p95 | p99 | max | wasted | recovered |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
            self.alone.as_secs_f64()
        );
        let seconds = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
        for run in self.runs.iter().flat_map(|run| std::iter::once(run).chain(&run.kinds)) {
            let refused = match run.refusal.at(0.99) {
                None => "0".to_owned(),
                Some(p99) => format!("{} ({p99:.3})", run.refused),
            };
            let failed: Vec<_> = run.failed.iter().map(|(code, count)| format!("{count} {code}")).collect();
            let failed = if failed.is_empty() { "0".to_owned() } else { failed.join(", ") };
            let wasted = run.wasted.map_or("–".to_owned(), |wasted| format!("{:.1} %", 100.0 * wasted));
            let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|share| seconds(run.latency.at(share)));
            let _ = writeln!(
                text,
                "| {} | {:.2} | {} | {:.2} ({:.0} %) | {refused} | {} | {} | {failed} | {} | {p50} | {p95} | {p99} | {max} \
                 | {wasted} | {} |",
                run.name,
                run.offered,
                run.drawn,
                run.goodput,
                100.0 * run.of_peak(self.peak),
                run.late,
                run.abandoned,
                seconds(run.latency.mean()),
                seconds(run.recovery),
            );
        }
        let lag = self.runs.iter().map(|run| run.lag).fold(0.0, f64::max);
        if lag > TOO_LATE {
            let _ = writeln!(
                text,
                "\nThis program made calls up to {lag:.2} s too late: run it on another machine than the mesh, or on one with more \
                 cores."
            );
        }
        text
    }

    fn plot_goodput(&self, path: &Path) -> Result<(), Failure> {
        let mut points: Vec<_> = self.runs.iter().map(|run| (run.offered, run.goodput)).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let series = [("in time".to_owned(), points)];
        plot(path, ["calls per second", "images per second in time"], &series)
    }

    fn plot_latency(&self, path: &Path) -> Result<(), Failure> {
        let of_run = |run: &Figures| {
            let at = |share| Some((100.0 * share, run.latency.at(share)?));
            (run.name.clone(), SHARES.into_iter().filter_map(at).collect())
        };
        let series: Vec<_> = self.runs.iter().map(of_run).collect();
        plot(path, ["per cent of the images", "seconds"], &series)
    }
}

/// A call made later than this was not made when it was due, seconds.
const TOO_LATE: f64 = 0.05;

fn plot(path: &Path, axes: [&str; 2], series: &[(String, Vec<(f64, f64)>)]) -> Result<(), Failure> {
    let points = || series.iter().flat_map(|(_, points)| points);
    let right = points().map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
    let top = points().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..right * 1.03, 0.0..top * 1.05)?;
    chart.configure_mesh().x_desc(axes[0]).y_desc(axes[1]).light_line_style(WHITE).draw()?;
    for ((name, points), colour) in series.iter().zip(COLOURS.into_iter().cycle()) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3))?
            .label(name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(area.present()?)
}

/// Cores and processor of this machine.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    format!("{cores} cores of {model}")
}
