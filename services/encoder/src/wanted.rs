//! Whether a caller still waits: work on blocking threads cannot be cancelled, but it need not begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asked before each piece of work.
#[derive(Debug, Clone)]
pub(crate) struct Wanted(Arc<AtomicBool>);

/// Held by the call; when it is dropped, by an answer, a deadline or a caller that left, nothing is wanted any more.
#[derive(Debug)]
pub(crate) struct Caller(Wanted);

impl Caller {
    pub(crate) fn new() -> Self {
        Self(Wanted(Arc::new(AtomicBool::new(true))))
    }

    pub(crate) fn wanted(&self) -> Wanted {
        self.0.clone()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

impl Wanted {
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wanted_once_the_caller_is_gone() {
        let caller = Caller::new();
        let wanted = caller.wanted();
        assert!(wanted.is_wanted());
        drop(caller);
        assert!(!wanted.is_wanted());
    }
}
