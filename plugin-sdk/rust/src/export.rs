//! [`export!`](crate::export): what a component offers.

/// Exports a plugin: `export!(Type: interface, ...)`, once per component. `Type` implements the trait of each interface
/// it names, and `Default`; one instance of it is made per instance of the component.
///
/// | interface | trait |
/// |---|---|
/// | `methods` | [`Methods`](crate::Methods) |
/// | `skill` | [`Skill`](crate::Skill) |
/// | `channel` | [`Channel`](crate::Channel) |
/// | `actions` | [`ChannelActions`](crate::ChannelActions) |
/// | `webhook` | [`Webhook`](crate::Webhook) |
/// | `poll` | [`Poll`](crate::Poll) |
/// | `socket` | [`Socket`](crate::Socket) |
/// | `hook` | [`Hook`](crate::Hook) |
/// | `routes` | [`HttpRoutes`](crate::HttpRoutes) |
///
/// The component exports what is named and nothing else, which is how the host learns what the plugin is. A native build
/// (`cargo test`) checks the traits and exports nothing.
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($interface:ident),+ $(,)?) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            impl $crate::__private::Instance for $plugin {
                fn with<R>(work: impl FnOnce(&Self) -> R) -> R {
                    ::std::thread_local! {
                        static PLUGIN: $plugin = <$plugin as ::std::default::Default>::default();
                    }
                    PLUGIN.with(|plugin| work(plugin))
                }
            }
        };
        $($crate::__export_interface!($plugin $interface);)+
    };
}

/// One interface of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_interface {
    ($plugin:ident methods) => { $crate::__export_as!($plugin method Methods); };
    ($plugin:ident skill) => { $crate::__export_as!($plugin skill Skill); };
    ($plugin:ident channel) => { $crate::__export_as!($plugin channel Channel); };
    ($plugin:ident actions) => { $crate::__export_as!($plugin actions ChannelActions); };
    ($plugin:ident webhook) => { $crate::__export_as!($plugin webhook Webhook); };
    ($plugin:ident poll) => { $crate::__export_as!($plugin poll Poll); };
    ($plugin:ident socket) => { $crate::__export_as!($plugin socket Socket); };
    ($plugin:ident hook) => { $crate::__export_as!($plugin hook Hook); };
    ($plugin:ident routes) => { $crate::__export_as!($plugin routes HttpRoutes); };
    ($plugin:ident $other:ident) => {
        ::std::compile_error!(::std::concat!(
            "`", ::std::stringify!($other), "` is not an interface: use methods, skill, channel, actions, webhook, \
             poll, socket, hook or routes"
        ));
    };
}

/// The export itself; in a native build only the check that it would work.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_as {
    ($plugin:ident $module:ident $trait:ident) => {
        const _: () = {
            const fn implements<P: $crate::$trait + ::std::default::Default>() {}
            implements::<$plugin>();
        };
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::__private::Adapter<$plugin>;
    $crate::__private::$module::export!(Exported with_types_in $crate::__private::$module);
        };
    };
}
