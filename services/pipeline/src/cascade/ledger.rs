//! What the caller is told of an image, and the account of its stages.

use std::mem;

use reverie_proto::diffusion::v1::{ModelIdentity, StageTimings, StepProgress};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{Progress, StageReport};

use crate::measure;
use crate::news::News;
use crate::position::{Place, Position};

/// Tells the caller what happens, and keeps account of the stages: of one image, or of what is done once for all of a request.
pub(crate) struct Ledger<'a> {
    pub(super) news: &'a News,
    pub(super) position: &'a Position,
    /// Which image, from 0; 0 also for what is done once for all.
    index: u32,
    reports: Vec<StageReport>,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(news: &'a News, position: &'a Position, index: u32) -> Self {
        Self { news, position, index, reports: Vec::new() }
    }

    pub(super) async fn tell(&self, event: Event) {
        self.news.tell(event).await;
    }

    /// Left out, rather than waited for, when the caller lags behind. The last step is told when the picture is there.
    pub(super) fn step(&self, place: Place, StepProgress { step, steps }: StepProgress) {
        self.position.step(place, step, steps);
        if step < steps {
            self.news.offer(Event::Progress(self.progress(place, step, steps)));
        }
    }

    pub(super) async fn done(
        &mut self,
        place: impl Into<Place>,
        steps: u32,
        seconds: f64,
        timings: Option<StageTimings>,
        model: Option<ModelIdentity>,
    ) {
        let place = place.into();
        measure::stage(place, seconds);
        let Place { stage, level } = place;
        self.reports.push(StageReport { stage: stage.into(), level, seconds, timings, model });
        self.tell(Event::Progress(self.progress(place, steps, steps))).await;
    }

    fn progress(&self, Place { stage, level }: Place, step: u32, steps: u32) -> Progress {
        Progress { stage: stage.into(), level, step, steps, index: self.index }
    }

    /// The stages that were done since this was asked last, in order.
    pub(super) fn take_reports(&mut self) -> Vec<StageReport> {
        mem::take(&mut self.reports)
    }
}
