//! The process of the super-resolution service.

use std::process::ExitCode;

use reverie_service_kit::process;
use reverie_super_resolution::Settings;

fn main() -> ExitCode {
    process::main::<Settings, _, _>(
        "Enlarges pictures, one level of the cascade at a time.",
        reverie_super_resolution::run,
    )
}
