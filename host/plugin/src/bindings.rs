//! Generated bindings for version 0 of the plugin contract (`wit/`), for every interface the host serves.
//!
//! Imports are one trait per interface, implemented in [`crate::host`]. Exports are optional: `GuestIndices` of each
//! interface are looked up one by one, so a component exports what it likes.

mod generated {
    wasmtime::component::bindgen!({
        inline: "
            package leanclaw:host@0.1.0;
            world host {
                import leanclaw:plugin/log@0.1.0;
                import leanclaw:plugin/settings@0.1.0;
                import leanclaw:plugin/kv@0.1.0;
                import leanclaw:plugin/credentials@0.1.0;
                import leanclaw:plugin/blobs@0.1.0;
                import leanclaw:plugin/http@0.1.0;
                import leanclaw:plugin/events@0.1.0;
                import leanclaw:plugin/inbox@0.1.0;
                import leanclaw:plugin/call@0.1.0;
                export leanclaw:plugin/channel@0.1.0;
                export leanclaw:plugin/channel-actions@0.1.0;
                export leanclaw:plugin/webhook@0.1.0;
                export leanclaw:plugin/poll@0.1.0;
                export leanclaw:plugin/socket@0.1.0;
                export leanclaw:plugin/skill@0.1.0;
                export leanclaw:plugin/method@0.1.0;
                export leanclaw:plugin/hook@0.1.0;
            }
        ",
        path: "../../wit",
        world: "leanclaw:host/host",
        imports: {
            "leanclaw:plugin/kv": async | trappable,
            "leanclaw:plugin/http": async | trappable,
            "leanclaw:plugin/inbox": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "leanclaw:plugin/blobs.blob": crate::host::blobs::Blob,
            "leanclaw:plugin/blobs.writer": crate::host::blobs::Writer,
            "leanclaw:plugin/call.context": crate::host::call::Context,
        },
    });
}

pub(crate) use generated::exports::leanclaw::plugin as exports;
pub(crate) use generated::leanclaw::plugin as imports;
