//! Settings of the denoiser service; `settings.toml`, and for `[inference]` and `[lane]` `models.toml` of `reverie-stage`,
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
    /// The queue of each model.
    pub lane: LaneSettings,
    /// What the service tells of a drawing.
    pub progress: ProgressSettings,
    /// Results that are kept.
    pub cache: Cache,
}

/// Results that are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Memory for the features of neighbours, MiB.
    pub neighbours_mib: u64,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "denoiser";
    const PORT: u16 = 7104;

    fn defaults() -> Cow<'static, str> {
        let models = ModelDefaults { sessions: 0, threads: 1, max_jobs: 80 };
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
