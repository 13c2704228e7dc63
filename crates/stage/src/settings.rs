//! The default file of a service that runs models: the tables `[inference]` and `[lane]`, which are the same in all of them but for
//! three numbers.

use std::fmt;

/// What differs between the services.
#[derive(Debug, Clone, Copy)]
pub struct ModelDefaults {
    /// Sessions of each model; 0 for as many as the cores allow.
    pub sessions: usize,
    /// Threads of a session; 0 for one per core.
    pub threads: usize,
    /// Jobs that a lane holds.
    pub max_jobs: usize,
}

impl fmt::Display for ModelDefaults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = include_str!("models.toml")
            .replace("{sessions}", &self.sessions.to_string())
            .replace("{threads}", &self.threads.to_string())
            .replace("{max_jobs}", &self.max_jobs.to_string());
        formatter.write_str(&text)
    }
}
