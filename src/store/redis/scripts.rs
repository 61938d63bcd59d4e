use redis::{Pipeline, Script};

macro_rules! scripts {
    ($($name:ident),+ $(,)?) => {
        /// Our Lua scripts. Each step that decides a transition is one of them, run atomically by
        /// Redis.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $(pub(super) $name: Script,)+
        }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self { $($name: Script::new(text::$name),)+ }
            }

            /// Loads them all, so that no call has to do it.
            pub(super) fn loading() -> Pipeline {
                let mut pipeline = redis::pipe();
                for text in [$(text::$name),+] {
                    pipeline.cmd("SCRIPT").arg("LOAD").arg(text).ignore();
                }
                pipeline
            }
        }

        #[allow(non_upper_case_globals)]
        mod text {
            $(pub(super) const $name: &str = concat!(
                include_str!("announce.lua"),
                "\n",
                include_str!(concat!(stringify!($name), ".lua")),
            );)+
        }
    };
}

scripts!(
    touch, leave, due, sweep, user, announced, history, recent, count
);

/// Runs within a transaction, where a script that Redis forgot could not be sent again: so it goes
/// there in full, and has no prelude.
pub(super) const AMEND: &str = include_str!("amend.lua");
