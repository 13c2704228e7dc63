//! Standard output and standard error, which may be closed or full: where `println!` panics, these say so, or go on.

use std::fmt::Arguments;
use std::io::{self, Write as _};

/// Standard output takes no more.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// 128 + SIGPIPE: what a shell sees of a program whose reader left.
const READER_LEFT: u8 = 141;

/// Writes to standard output.
pub fn print(text: Arguments<'_>) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    output.write_fmt(text)?;
    Ok(output.flush()?)
}

/// Writes a line to standard output; an error is given back as [`OutputError`].
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}

/// Writes a line to standard error.
pub fn note(text: Arguments<'_>) {
    // Nowhere is left to say that this cannot be said.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Says on standard error why `program` ends, and gives its exit code. A reader that left has had enough: nothing is said.
pub fn failed(program: &str, why: &(dyn std::error::Error + 'static)) -> u8 {
    if why
        .downcast_ref::<OutputError>()
        .is_some_and(|OutputError(why)| why.kind() == io::ErrorKind::BrokenPipe)
    {
        return READER_LEFT;
    }
    note(format_args!("{program}: {why}"));
    1
}
