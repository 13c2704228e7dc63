//! reverie-retrieval
