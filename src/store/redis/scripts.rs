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
        /// Our Lua scripts. Each step that decides a transition is one of them, run atomically by
        /// Redis.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $(pub(super) $announcing: Script,)+
            $(pub(super) $about: Script,)+
            $(pub(super) $seen: Script,)+
            pub(super) extend: Script,
        }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self {
                    $($announcing: Script::new(text::$announcing),)+
                    $($about: Script::new(text::$about),)+
                    $($seen: Script::new(text::$seen),)+
                    extend: Script::new(EXTEND),
                }
            }

            /// Loads them all, so that no call has to do it.
            pub(super) fn loading() -> Pipeline {
                let mut pipeline = redis::pipe();
                for text in [$(text::$announcing,)+ $(text::$about,)+ $(text::$seen,)+ EXTEND] {
                    pipeline.cmd("SCRIPT").arg("LOAD").arg(text).ignore();
                }
                pipeline
            }
        }

        #[allow(non_upper_case_globals)]
        mod text {
            $(pub(super) const $announcing: &str = scripts!($announcing, "announce.lua");)+
            $(pub(super) const $about: &str = scripts!($about, "announce.lua", "connections.lua");)+
            $(
                pub(super) const $seen: &str =
                    scripts!($seen, "announce.lua", "connections.lua", "last_seen.lua");
            )+
        }
    };
}

scripts!(
    announcing: [announced, history, recent, count],
    about_connections: [touch, due, recheck],
    about_last_seen: [leave, sweep, user],
);

/// The pings of one batch; it has no prelude.
const EXTEND: &str = include_str!("extend.lua");

/// Runs within a transaction, where a script that Redis forgot could not be sent again: so it goes
/// there in full, and has no prelude.
pub(super) const AMEND: &str = include_str!("amend.lua");
