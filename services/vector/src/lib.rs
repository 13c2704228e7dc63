//! reverie-vector
