//! One ONNX Runtime session that several threads run at the same time.
//!
//! ONNX Runtime documents that `OrtApi::Run` may be called on one session from several threads, and on the CPU provider it is as fast
//! as a session per thread while the weights are in memory once (189.5 ms a row against 190.0 ms, 1.4 GiB against 2.2 GiB, for a model
//! of 142 M parameters on two cores). `ort` asks for `&mut` all the same, because the allocators of other providers are not safe
//! across threads. So sharing is for the CPU provider alone
//! ([`InferenceSettings::shares_weights`](crate::InferenceSettings::shares_weights)), and this file is the only one that does it.

#![expect(unsafe_code, reason = "a session is duplicated bit by bit, see `SharedSession::another`")]

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use ort::session::Session;

/// A thread's hold on a session that other threads may hold as well.
#[derive(Debug)]
pub(crate) struct SharedSession {
    /// This thread's own duplicate of `original`. It is never dropped: what it refers to belongs to `original`.
    duplicate: ManuallyDrop<Session>,
    /// Keeps alive what `duplicate` refers to. Only ever read.
    original: Arc<Session>,
}

impl SharedSession {
    pub(crate) fn new(session: Session) -> Self {
        Self::of(Arc::new(session))
    }

    /// A hold for another thread.
    pub(crate) fn another(&self) -> Self {
        Self::of(Arc::clone(&self.original))
    }

    fn of(original: Arc<Session>) -> Self {
        // SAFETY: a `Session` is a counted reference to the session and two lists of its inputs and outputs. The duplicate lives no
        // longer than `original`, is never dropped, and never leaves this struct but by `get`, whose caller can run it, bind tensors to it and no more:
        // that reads the reference and the lists, or counts another reference (atomically), and changes neither. So no memory is freed twice or changed behind a reference,
        // and each thread has an exclusive reference to a value of its own. That ONNX Runtime itself may be called from several
        // threads is its documented contract for the CPU provider.
        let duplicate = ManuallyDrop::new(unsafe { ptr::read(Arc::as_ptr(&original)) });
        Self { duplicate, original }
    }

    pub(crate) fn get(&mut self) -> &mut Session {
        &mut self.duplicate
    }
}
