//! What the tests of servers share.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

use reverie_service_kit::serve::ServerSettings;
use reverie_service_kit::tls::ServerTlsSettings;
use reverie_service_kit::web::WebSettings;

/// Settings of a small server on a port that the system chooses, whose connections have any age.
pub(crate) fn settings() -> ServerSettings {
    ServerSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_connections: 8,
        max_concurrent_streams: 8,
        handshake_seconds: 5,
        receive_seconds: 5,
        send_seconds: 5,
        max_buffered_mib: 1,
        max_connection_age_seconds: 0,
        max_connection_age_grace_seconds: 0,
        lame_duck_seconds: 0,
        drain_seconds: 1,
        tls: ServerTlsSettings::default(),
        web: WebSettings::default(),
    }
}
