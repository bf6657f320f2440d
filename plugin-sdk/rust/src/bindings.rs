//! What `wit-bindgen` makes of the contract in `wit`: one module with all imports, and one module per interface that a
//! plugin may export. Only [`export!`](crate::export) puts an export into a component, and the linker keeps only the
//! imports that are called, so a component has exactly what its plugin uses.

/// Everything a plugin may import. The path is that of the repository, which a copy in a plugin's folder keeps.
pub(crate) mod imports {
    wit_bindgen::generate!({
        inline: "
            package leanclaw:sdk;
            world imports {
                import leanclaw:plugin/log@0.1.0;
                import leanclaw:plugin/settings@0.1.0;
                import leanclaw:plugin/kv@0.1.0;
                import leanclaw:plugin/credentials@0.1.0;
                import leanclaw:plugin/blobs@0.1.0;
                import leanclaw:plugin/http@0.1.0;
                import leanclaw:plugin/events@0.1.0;
                import leanclaw:plugin/call@0.1.0;
                import leanclaw:plugin/messages@0.1.0;
                import leanclaw:plugin/inbox@0.1.0;
                import wasi:http/outgoing-handler@0.2.12;
            }
        ",
        path: "../../wit",
        generate_all,
    });
}

pub(crate) use imports::leanclaw::plugin as raw;
pub(crate) use imports::wasi;

/// One module per exported interface, with the macro that exports it.
macro_rules! exported {
    ($($module:ident: $world:literal with { $($interface:literal: $path:path),* $(,)? };)*) => {$(
        #[doc(hidden)]
        pub mod $module {
            wit_bindgen::generate!({
                inline: $world,
                path: "../../wit",
                with: { $($interface: $path),* },
                pub_export_macro: true,
            });
        }
    )*};
}

exported! {
    method: "package leanclaw:sdk; world method { export leanclaw:plugin/method@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
        "leanclaw:plugin/call@0.1.0": crate::bindings::imports::leanclaw::plugin::call,
    };
    skill: "package leanclaw:sdk; world skill { export leanclaw:plugin/skill@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
        "leanclaw:plugin/call@0.1.0": crate::bindings::imports::leanclaw::plugin::call,
        "leanclaw:plugin/blobs@0.1.0": crate::bindings::imports::leanclaw::plugin::blobs,
    };
    channel: "package leanclaw:sdk; world channel { export leanclaw:plugin/channel@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
        "leanclaw:plugin/blobs@0.1.0": crate::bindings::imports::leanclaw::plugin::blobs,
        "leanclaw:plugin/messages@0.1.0": crate::bindings::imports::leanclaw::plugin::messages,
    };
    actions: "package leanclaw:sdk; world actions { export leanclaw:plugin/channel-actions@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
        "leanclaw:plugin/blobs@0.1.0": crate::bindings::imports::leanclaw::plugin::blobs,
        "leanclaw:plugin/messages@0.1.0": crate::bindings::imports::leanclaw::plugin::messages,
    };
    webhook: "package leanclaw:sdk; world webhook { export leanclaw:plugin/webhook@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
    };
    poll: "package leanclaw:sdk; world poll { export leanclaw:plugin/poll@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
    };
    socket: "package leanclaw:sdk; world socket { export leanclaw:plugin/socket@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
    };
    hook: "package leanclaw:sdk; world hook { export leanclaw:plugin/hook@0.1.0; }" with {
        "leanclaw:plugin/types@0.1.0": crate::bindings::imports::leanclaw::plugin::types,
        "leanclaw:plugin/call@0.1.0": crate::bindings::imports::leanclaw::plugin::call,
    };
    routes: "package leanclaw:sdk; world routes { export wasi:http/incoming-handler@0.2.12; }" with {
        "wasi:http/types@0.2.12": crate::bindings::imports::wasi::http::types,
        "wasi:io/error@0.2.12": crate::bindings::imports::wasi::io::error,
        "wasi:io/poll@0.2.12": crate::bindings::imports::wasi::io::poll,
        "wasi:io/streams@0.2.12": crate::bindings::imports::wasi::io::streams,
        "wasi:clocks/monotonic-clock@0.2.12": crate::bindings::imports::wasi::clocks::monotonic_clock,
    };
}
