//! The process of the pipeline service.

use std::process::ExitCode;

use reverie_pipeline::Settings;
use reverie_service_kit::process;

fn main() -> ExitCode {
    process::main::<Settings, _, _>("The public door: a prompt becomes a picture.", reverie_pipeline::run)
}
