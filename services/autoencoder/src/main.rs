//! The process of the autoencoder service.

use std::process::ExitCode;

use reverie_autoencoder::Settings;
use reverie_service_kit::process;

fn main() -> ExitCode {
    process::main::<Settings, _, _>(
        "Turns latents into pictures, and pictures into latents.",
        reverie_autoencoder::run,
    )
}
