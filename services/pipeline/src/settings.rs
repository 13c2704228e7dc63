//! Settings of the pipeline service; `settings.toml` says what each key means.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use reverie_access::AccessSettings;
use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use reverie_proto::denoiser::v1::GetModelResponse;
use reverie_proto::limits::MAX_NEIGHBOURS;
use reverie_service_kit::client::Addresses;
use reverie_service_kit::settings::{CommonSettings, ServiceSettings, SettingsError, at_least_one, within};
use serde::Deserialize;

use crate::callers::Callers;

/// The largest request that is taken, MiB: references, an initial image and its mask of the largest size, and 1 MiB of text.
const MAX_REQUEST_MIB: usize = 1 + (((MAX_NEIGHBOURS as usize + 2) * MAX_ENCODED_BYTES) >> 20);

/// Less than 20 ms, and the deadline would pass while the image is sent.
const ANSWER_MILLISECONDS: RangeInclusive<u64> = 20..=10_000;

/// As many as eyes can tell apart.
const MAX_STEP_PREVIEWS: f64 = 25.0;

/// All settings.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// What every service has: listening, admin server, telemetry.
    #[serde(flatten)]
    pub common: CommonSettings,
    /// Where the other services are.
    pub stages: StageAddresses,
    /// Bounds.
    pub limits: Limits,
    /// Who may call, and how much.
    pub access: AccessSettings,
    /// Who callers are.
    pub callers: Callers,
    /// What a request that says nothing gets.
    pub defaults: Defaults,
}

/// Where the other services are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageAddresses {
    /// The encoder service.
    pub encoder: Addresses,
    /// The retrieval service; none where nothing is remembered.
    #[serde(deserialize_with = "Addresses::optional")]
    pub retrieval: Option<Addresses>,
    /// The denoiser service.
    pub denoiser: Addresses,
    /// The autoencoder service; only models that work on latents need it.
    #[serde(deserialize_with = "Addresses::optional")]
    pub autoencoder: Option<Addresses>,
    /// The super-resolution deployments.
    pub super_resolution: Vec<Addresses>,
}

/// Bounds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Pictures in flight.
    pub max_in_flight: usize,
    /// Bytes of a request, MiB.
    pub max_request_mib: usize,
    /// Seconds that a request may take.
    pub max_request_seconds: u64,
    /// Milliseconds before the deadline at which a smaller image is sent.
    pub answer_milliseconds: u64,
    /// Previews between steps, for each image.
    pub step_previews_per_second: f64,
}

impl Limits {
    /// Previews between the steps of this base model, per second of an image; 0 if there are none.
    pub(crate) fn step_previews(&self, base: &GetModelResponse) -> f64 {
        if base.latent.is_some() { 0.0 } else { self.step_previews_per_second }
    }
}

/// What a request that says nothing gets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// K.
    pub neighbours: u32,
}

impl ServiceSettings for Settings {
    const SERVICE: &'static str = "pipeline";
    const PORT: u16 = 7100;
    const READS_STORAGE: bool = false;

    fn defaults() -> Cow<'static, str> {
        Cow::Borrowed(include_str!("../settings.toml"))
    }

    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn validate(&self) -> Result<(), SettingsError> {
        at_least_one("limits.max_in_flight", self.limits.max_in_flight)?;
        let Limits { max_request_mib, max_request_seconds, answer_milliseconds, .. } = self.limits;
        within("limits.max_request_mib", max_request_mib, 1, MAX_REQUEST_MIB)?;
        at_least_one("limits.max_request_seconds", max_request_seconds)?;
        let (least, most) = ANSWER_MILLISECONDS.into_inner();
        within("limits.answer_milliseconds", answer_milliseconds, least, most)?;
        let rate = self.limits.step_previews_per_second;
        within("limits.step_previews_per_second", rate, 0.0, MAX_STEP_PREVIEWS)?;
        self.access.validate()?;
        self.callers.validate()?;
        within("defaults.neighbours", self.defaults.neighbours, 1, MAX_NEIGHBOURS)
    }
}
