//! Calls that take no place among those that work.

use crate::admission::Admission;

/// Open at a time, of each kind.
const MOST: usize = 256;
/// Bytes of their messages, and of what unpacks them.
const MOST_BYTES: usize = 16 << 20;
/// Asks for the health once.
const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// The places of such calls. Each kind has its own: none keeps another away.
#[derive(Debug, Clone)]
pub(super) struct Aside {
    /// Whether the service is well: anyone may ask, and the answer comes at once.
    health: Admission,
    /// Streams that stay open as long as their callers like: changes of the health, reflection.
    streams: Admission,
    /// Methods that only tell what is loaded.
    questions: Admission,
}

impl Default for Aside {
    fn default() -> Self {
        let [health, streams, questions] = [(); 3].map(|()| Admission::new(MOST, MOST_BYTES));
        Self { health, streams, questions }
    }
}

impl Aside {
    /// The places for the method at `path`, which is the service's own or not.
    pub(super) fn of(&self, path: &str, is_own: bool) -> &Admission {
        if is_own {
            &self.questions
        } else if path == HEALTH_CHECK {
            &self.health
        } else {
            &self.streams
        }
    }
}
