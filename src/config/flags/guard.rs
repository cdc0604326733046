//! Flags of what guards the doors.

use std::path::PathBuf;

use clap::Args;

/// Flags of TLS, authentication and limits by client.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Guard")]
pub struct GuardFlags {
    /// TLS on both ports: the certificate and its chain, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "TENSORGATE_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// The key of --tls-cert, in PEM
    #[arg(long, value_name = "FILE", env = "TENSORGATE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,

    /// Mutual TLS: clients need a certificate signed by one of these, in PEM
    #[arg(long, value_name = "FILE", env = "TENSORGATE_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,

    /// The oldest TLS spoken: 1.2 or 1.3 [default: 1.2]
    #[arg(long, value_name = "VERSION", env = "TENSORGATE_TLS_MIN_VERSION")]
    pub tls_min_version: Option<String>,

    /// How long a TLS handshake may take [default: 10s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_TLS_HANDSHAKE_TIMEOUT")]
    pub tls_handshake_timeout: Option<String>,

    /// Clients need a key of this file (TOML), as "authorization: Bearer TOKEN" or "x-api-key: TOKEN"; health stays open
    #[arg(long, value_name = "FILE", env = "TENSORGATE_AUTH_FILE")]
    pub auth_file: Option<PathBuf>,

    /// How often one client, by its key or else its address, may call: 100/s, 50/m, 1000/h [default: as often as it likes]
    #[arg(long, value_name = "RATE", env = "TENSORGATE_RATE_LIMIT")]
    pub rate_limit: Option<String>,

    /// Take no calls of this group from anybody: infer, metadata, repository, metrics or admin, at one door: "grpc:repository",
    /// or at both; may be repeated
    #[arg(long, value_name = "GROUP", env = "TENSORGATE_REFUSE", value_delimiter = ',')]
    pub refuse: Vec<String>,

    /// How often the files above are looked at; SIGHUP looks at once [default: 5s]
    #[arg(long, value_name = "DURATION", env = "TENSORGATE_RELOAD_INTERVAL")]
    pub reload_interval: Option<String>,
}
