//! The process of the encoder service.

use std::process::ExitCode;

use reverie_encoder::Settings;
use reverie_service_kit::process;

fn main() -> ExitCode {
    process::main::<Settings, _, _>("Turns prompts and pictures into embeddings.", reverie_encoder::run)
}
