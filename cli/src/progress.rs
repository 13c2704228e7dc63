//! Progress bars: one for each stage of a request, and one for each file that is transferred.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use reverie_proto::generation::v1::Stage;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_storage::{Transfer, Watch};

/// The bars of a request, on standard error; nothing where that is no terminal.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    /// By stage and level.
    of_stage: HashMap<(i32, u32), Bar>,
}

/// The bar of a stage, which counts the steps of all images.
#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    /// Steps done of each image.
    done: Vec<u64>,
}

/// A stage's name for people; `level` tells the levels of super-resolution apart, from 1.
pub fn stage_name(stage: Stage, level: u32) -> String {
    let name = match stage {
        Stage::Unspecified => "unknown",
        Stage::Encode => "encode",
        Stage::Retrieve => "retrieve",
        Stage::EncodePicture => "encode picture",
        Stage::Base => "base",
        Stage::Decode => "decode",
        Stage::SuperResolution => return format!("super-resolution {level}"),
    };
    name.to_owned()
}

impl Bars {
    /// No bars yet; none at all if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { all: MultiProgress::with_draw_target(target), of_stage: HashMap::new() }
    }

    /// Shows what an event says.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Started(started) => {
                let style = ProgressStyle::with_template("{prefix:>20} {bar:32} {pos:>3}/{len}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let mut levels = 0;
                for stage in started.stages() {
                    let is_level = stage == Stage::SuperResolution;
                    levels += u32::from(is_level);
                    let level = if is_level { levels } else { 0 };
                    let bar = ProgressBar::new(1).with_style(style.clone());
                    let bar = self.all.add(bar.with_prefix(stage_name(stage, level)));
                    let is_shared = matches!(stage, Stage::Encode | Stage::Retrieve | Stage::EncodePicture);
                    let images = if is_shared { 1 } else { started.seeds.len().max(1) };
                    self.of_stage.insert((stage.into(), level), Bar { bar, done: vec![0; images] });
                }
            }
            Event::Progress(progress) => {
                if let Some(Bar { bar, done }) = self.of_stage.get_mut(&(progress.stage, progress.level)) {
                    if let Some(done) = done.get_mut(progress.index as usize) {
                        *done = u64::from(progress.step);
                    }
                    bar.set_length(u64::from(progress.steps) * done.len() as u64);
                    bar.set_position(done.iter().sum());
                    bar.tick();
                }
            }
            _ => {}
        }
    }

    /// Leaves the bars as they are.
    pub fn finish(&self) {
        for Bar { bar, .. } in self.of_stage.values() {
            bar.abandon();
        }
    }
}

/// A bar that counts to `total`, with the rate and the time left; on standard error, and nothing where that is no terminal.
pub(crate) fn counting_bar(name: &'static str, total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>20} {bar:32} {pos}/{len}, {per_sec}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    bar.with_style(style).with_prefix(name)
}

/// A bar for each file that comes from object storage, and each large one that goes there, on standard error, and nothing where that is no
/// terminal.
#[derive(Debug, Default)]
pub(crate) struct TransferBars {
    all: MultiProgress,
    of_file: Mutex<HashMap<String, ProgressBar>>,
}

impl Watch for TransferBars {
    fn progress(&self, download: Transfer<'_>) {
        let mut bars = self.of_file.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bars.entry(download.file.to_owned()).or_insert_with(|| {
            let template = "{wide_msg} {bar:24} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = self.all.add(ProgressBar::new(download.total).with_style(style));
            bar.with_message(download.file.to_owned())
        });
        bar.set_position(download.done);
    }

    fn ended(&self, file: &str) {
        let ended = self.of_file.lock().unwrap_or_else(PoisonError::into_inner).remove(file);
        if let Some(bar) = ended {
            bar.finish_and_clear();
        }
    }
}
