use redis::{Pipeline, Script};

macro_rules! scripts {
    ($name:ident, $($part:literal),+) => {
        concat!($(include_str!($part), "\n",)+ include_str!(concat!(stringify!($name), ".lua")))
    };
    (
        announcing: [$($announcing:ident),+ $(,)?],
        about_connections: [$($about:ident),+ $(,)?],
        about_last_seen: [$($seen:ident),+ $(,)?] $(,)?
    ) => {
        /// The Lua scripts. Redis runs each of them atomically, and every transition is decided in one of them.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $(pub(super) $announcing: Script,)+
            $(pub(super) $about: Script,)+
            $(pub(super) $seen: Script,)+
            pub(super) extend: Script,
            pub(super) newest: Script,
        }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self {
                    $($announcing: Script::new(text::$announcing),)+
                    $($about: Script::new(text::$about),)+
                    $($seen: Script::new(text::$seen),)+
                    extend: Script::new(EXTEND),
                    newest: Script::new(NEWEST),
                }
            }

            /// The commands that load all scripts, so that no call has to.
            pub(super) fn loading() -> Pipeline {
                let mut pipeline = redis::pipe();
                let own = [$(text::$announcing,)+ $(text::$about,)+ $(text::$seen,)+];
                for text in own.into_iter().chain([EXTEND, NEWEST]) {
                    pipeline.cmd("SCRIPT").arg("LOAD").arg(text).ignore();
                }
                pipeline
            }
        }

        #[expect(non_upper_case_globals, reason = "the constants have the names of the scripts")]
        mod text {
            $(pub(super) const $announcing: &str = scripts!($announcing, "announce.lua");)+
            $(pub(super) const $about: &str = scripts!($about, "announce.lua", "connections.lua", "states.lua");)+
            $(
                pub(super) const $seen: &str =
                    scripts!($seen, "announce.lua", "connections.lua", "states.lua", "last_seen.lua");
            )+
        }
    };
}

scripts!(
    announcing: [announced, history, recent, count],
    about_connections: [connect, due, recheck, change, status],
    about_last_seen: [disconnect, sweep, user],
);

/// Extends the keys of a batch of pings. The script has no prelude.
const EXTEND: &str = include_str!("extend.lua");

/// Reads the newest position. The script has no prelude.
const NEWEST: &str = include_str!("newest.lua");

/// Runs within a transaction, where an unknown script could not be loaded and sent again. So its full text is sent, and
/// it has no prelude.
pub(super) const APPLY_SHORTENED: &str = include_str!("apply_shortened.lua");
