//! What a process holds, as it says itself.

use crate::processes::Process;
use crate::{Fallible, admin};

/// The most memory that a process may have more of than before, bytes: what is cached since, and what allocators keep.
const MORE_MEMORY: f64 = 128.0 * 1024.0 * 1024.0;
/// The most file descriptors that it may have more of: connections come and go.
const MORE_FILES: f64 = 16.0;
/// The most threads: pools of threads grow up to the number of calls in flight, and shrink late.
const MORE_THREADS: f64 = 64.0;

/// What a process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Calls in flight, and jobs of models that wait or are worked on.
    pub work: f64,
    /// Open file descriptors.
    pub files: f64,
    /// Threads.
    pub threads: f64,
    /// Resident memory, bytes.
    pub memory: f64,
}

impl Usage {
    /// Asks its admin port.
    pub async fn of(process: &Process) -> Fallible<Self> {
        let (_, metrics) = admin::page(&admin::address(process)?, "/metrics").await?;
        let sum = |name: &str| {
            admin::sum(&metrics, name).ok_or_else(|| format!("{} has no {name}", process.service()))
        };
        // Services without models have no lanes.
        let lanes = ["reverie_lane_queue_depth", "reverie_lane_active"];
        let jobs: f64 = lanes.into_iter().filter_map(|name| admin::sum(&metrics, name)).sum();
        Ok(Self {
            work: sum("reverie_calls_in_flight")? + jobs,
            files: sum("process_open_file_descriptor_count")?,
            threads: sum("process_thread_count")?,
            memory: sum("process_memory_usage_bytes")?,
        })
    }

    /// What it holds that it should have given back, when `before` is what it held when it had nothing to do.
    pub fn leaked_since(&self, before: &Self) -> Option<String> {
        let leaks = [
            ("calls and jobs", self.work, 0.0),
            ("file descriptors", self.files, before.files + MORE_FILES),
            ("threads", self.threads, before.threads + MORE_THREADS),
            ("bytes of memory", self.memory, before.memory + MORE_MEMORY),
        ];
        let told: Vec<String> = leaks
            .into_iter()
            .filter(|(_, now, most)| now > most)
            .map(|(what, now, most)| format!("{now} {what}, at most {most} are expected"))
            .collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_given_back_is_told() {
        let before = Usage { work: 0.0, files: 30.0, threads: 10.0, memory: 3e8 };
        assert_eq!(before.leaked_since(&before), None);
        for leaking in [
            Usage { work: 1.0, ..before },
            Usage { files: 47.0, ..before },
            Usage { threads: 75.0, ..before },
            Usage { memory: 5e8, ..before },
        ] {
            assert!(leaking.leaked_since(&before).is_some(), "{leaking:?}");
        }
    }
}
