//! The process of the vector service.

use std::process::ExitCode;

use reverie_service_kit::process;
use reverie_vector::Settings;

fn main() -> ExitCode {
    process::main::<Settings, _, _>("Finds the vectors nearest to a vector.", reverie_vector::run)
}
