//! The process of the retrieval service.

use std::process::ExitCode;

use reverie_retrieval::Settings;
use reverie_service_kit::process;

fn main() -> ExitCode {
    process::main::<Settings, _, _>(
        "Finds the pictures of a knowledge base that a prompt is about.",
        reverie_retrieval::run,
    )
}
