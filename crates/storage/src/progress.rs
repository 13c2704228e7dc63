//! What is told of a file while it comes or goes.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How far the download of a file is, or the upload of a large one.
#[derive(Debug, Clone, Copy)]
pub struct Transfer<'a> {
    /// The file, for people.
    pub file: &'a str,
    /// Bytes that have come or gone.
    pub done: u64,
    /// Bytes that it has.
    pub total: u64,
    /// Since it began.
    pub elapsed: Duration,
}

impl Transfer<'_> {
    /// Whether all of it is there.
    pub fn is_done(&self) -> bool {
        self.done >= self.total
    }
}

/// What is told about transfers. Several may run at a time.
pub trait Watch: Debug + Send + Sync {
    /// A part of a file has come or gone.
    fn progress(&self, progress: Transfer<'_>);
    /// A transfer has ended, well or badly.
    fn ended(&self, file: &str);
}

/// Lines in the log: the first and the last of every file, and one every few seconds between them.
#[derive(Debug, Default)]
pub(crate) struct LogLines {
    last: Mutex<Vec<(String, Instant)>>,
}

const BETWEEN_LINES: Duration = Duration::from_secs(5);
/// Smaller files are not worth a line of their own.
const WORTH_A_LINE: u64 = 1 << 20;

impl Watch for LogLines {
    fn progress(&self, progress: Transfer<'_>) {
        let Transfer { file, done, total, elapsed } = progress;
        if total < WORTH_A_LINE {
            return;
        }
        if !progress.is_done() {
            let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match last.iter_mut().find(|(name, _)| name == file) {
                Some((_, told)) if told.elapsed() < BETWEEN_LINES => return,
                Some((_, told)) => *told = Instant::now(),
                None => last.push((file.to_owned(), Instant::now())),
            }
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let rate = mib(done) / elapsed.as_secs_f64().max(1e-3);
        tracing::info!("downloading {file}: {:.0} of {:.0} MiB, {rate:.1} MiB/s", mib(done), mib(total));
    }

    fn ended(&self, file: &str) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.retain(|(name, _)| name != file);
    }
}
