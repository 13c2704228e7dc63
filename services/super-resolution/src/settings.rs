//! Settings of the super-resolution service; `settings.toml`, and for `[inference]` and `[lane]` `models.toml` of `reverie-stage`,
//! say what each key means.

use std::borrow::Cow;

use reverie_engine::{InferenceSettings, LaneSettings};
use reverie_service_kit::settings::{CommonSettings, ServiceSettings, SettingsError};
use reverie_stage::answers::ProgressSettings;
use reverie_stage::lanes;
use reverie_stage::settings::ModelDefaults;
use serde::Deserialize;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// What every service has: listening, admin server, telemetry.
    #[serde(flatten)]
    pub common: CommonSettings,
    /// Models and what they run on.
    pub inference: InferenceSettings,
    /// The queue of each level.
    pub lane: LaneSettings,
    /// What the service tells of a drawing.
    pub progress: ProgressSettings,
    /// Which levels are served.
    pub cascade: Cascade,
}

/// Which levels are served.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cascade {
    /// Folders in the bundle; empty for all of the bundle's levels.
    pub levels: Vec<String>,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "super-resolution";
    const PORT: u16 = 7105;

    fn defaults() -> Cow<'static, str> {
        let models = ModelDefaults { sessions: 0, threads: 2, max_jobs: 72 };
        Cow::Owned(format!("{models}\n{}", include_str!("../settings.toml")))
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn validate(&self) -> Result<(), SettingsError> {
        lanes::validate(&self.lane)?;
        self.progress.validate()
    }
}
