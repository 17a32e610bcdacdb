//! The protocol's messages that this crate adds to those of `arrow-flight`, as compiled from `proto/`.

/// Inside our tickets and handles.
#[expect(unreachable_pub, reason = "generated")]
pub(crate) mod own {
    include!(concat!(env!("OUT_DIR"), "/kalamdb.flight.rs"));
}

/// The session actions of Arrow Flight.
#[expect(unreachable_pub, clippy::enum_variant_names, reason = "generated")]
pub(crate) mod session {
    include!(concat!(env!("OUT_DIR"), "/arrow.flight.protocol.rs"));
}

/// Of Arrow Flight SQL.
#[expect(unreachable_pub, reason = "generated")]
pub(crate) mod sql {
    include!(concat!(env!("OUT_DIR"), "/arrow.flight.protocol.sql.rs"));
}
