//! reverie-inference
