//! reverie-integration-tests
