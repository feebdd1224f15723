//! Who takes part.

pub const BARE: &str = "bare axum, no session";
pub const SOSA: &str = "sosa-session";
pub const SOSA_SIGNED: &str = "sosa-session, signed";
pub const SOSA_UNINDEXED: &str = "sosa-session, unindexed";
pub const TOWER_15: &str = "tower-sessions 0.15";
pub const TOWER_14: &str = "tower-sessions 0.14";
pub const TOWER_14_SLIDING: &str = "tower-sessions 0.14, sliding";
pub const AXUM_SESSION: &str = "axum_session";
/// By default it answers from copies in the process, and saves each once in ten seconds, whether changed or not.
pub const AXUM_SESSION_UNCACHED: &str = "axum_session, memory lifetime zero";
pub const ACTIX: &str = "actix-session";
pub const ACTIX_POOL: &str = "actix-session, deadpool";
pub const ACTIX_SLIDING: &str = "actix-session, sliding";
pub const EXPRESS: &str = "express-session";

pub const IN_MEMORY: [&str; 6] = [BARE, SOSA, SOSA_SIGNED, TOWER_15, AXUM_SESSION, EXPRESS];

pub const ON_REDIS: [&str; 11] = [
    BARE,
    SOSA,
    SOSA_UNINDEXED,
    TOWER_14,
    TOWER_14_SLIDING,
    AXUM_SESSION,
    AXUM_SESSION_UNCACHED,
    ACTIX,
    ACTIX_POOL,
    ACTIX_SLIDING,
    EXPRESS,
];
