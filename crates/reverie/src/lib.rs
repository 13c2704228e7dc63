//! reverie
