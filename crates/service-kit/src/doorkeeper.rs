//! Who decides which calls from outside are let in.

use std::any::Any;
use std::fmt;

use http::{Extensions, HeaderMap};

use crate::Refusal;

/// Decides over each call from another process before its message is read. Health is not its business: whoever reaches a service may
/// ask whether it is well.
pub trait Doorkeeper: fmt::Debug + Send + Sync {
    /// Lets in a call of `method` (`package.Service/Method`). What it gives is held until the call has ended; what it puts into
    /// `extensions`, the method sees.
    ///
    /// # Errors
    /// Why it is not let in.
    fn admit(
        &self,
        method: &str,
        headers: &mut HeaderMap,
        extensions: &mut Extensions,
    ) -> Result<Box<dyn Any + Send>, Refusal>;
}
