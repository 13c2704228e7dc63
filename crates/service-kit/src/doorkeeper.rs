//! Who decides which calls from outside are let in.

use std::any::Any;
use std::fmt;

use http::Request;
use tonic::body::Body;

use crate::Refusal;

/// Decides over each call from another process before its message is read. Health is not its business: whoever reaches a service may
/// ask whether it is well.
pub trait Doorkeeper: fmt::Debug + Send + Sync {
    /// Lets in a call, or does not; the body is not to be read. What it gives is held until the call has ended; what it puts into the
    /// request's extensions, the method sees.
    ///
    /// # Errors
    /// Why it is not let in.
    fn admit(&self, request: &mut Request<Body>) -> Result<Box<dyn Any + Send>, Refusal>;
}
