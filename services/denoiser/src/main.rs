//! The process of the denoiser service.

use std::process::ExitCode;

use reverie_denoiser::Settings;
use reverie_service_kit::process;

fn main() -> ExitCode {
    process::main::<Settings, _, _>("Draws base pictures from noise and conditions.", reverie_denoiser::run)
}
