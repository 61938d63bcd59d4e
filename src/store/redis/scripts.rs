//! The Lua scripts, and how a connection loads them.

use futures_util::{StreamExt, TryStreamExt, stream};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Script};

/// How many scripts are loaded at a time. All of them together are 700 KB, which a connection should not hold at once.
const LOADS: usize = 8;

/// The text of a script about calls. The functions for calls that are not usual are within `any_call`, which creates
/// them when the first such call needs them. At each script call, their creation would take Redis as long as a few
/// usual calls.
macro_rules! call_script {
    (connect) => {
        call_script!(
            connect: "outages.lua", "connections.lua", "states.lua", "outbox.lua", "scores.lua", "connect_any.lua"
        )
    };
    (disconnect) => {
        call_script!(
            disconnect: "outages.lua", "connections.lua", "states.lua", "last_seen.lua", "outbox.lua", "scores.lua",
            "disconnect_any.lua"
        )
    };
    ($name:ident: $($part:literal),*) => {
        concat!(
            include_str!("scripts/announce.lua"),
            "\n",
            include_str!("scripts/gathered.lua"),
            "\nlocal function any_call(now)\n",
            $(include_str!(concat!("scripts/", $part)), "\n",)*
            "end\n",
            include_str!(concat!("scripts/", stringify!($name), ".lua")),
        )
    };
}

macro_rules! scripts {
    ($name:ident $(, $part:literal)*) => {
        concat!(
            $(include_str!(concat!("scripts/", $part)), "\n",)*
            include_str!(concat!("scripts/", stringify!($name), ".lua"))
        )
    };
    (
        announcing: [$($announcing:ident),+ $(,)?],
        about_connections: [$($about:ident),+ $(,)?],
        about_calls: [$($call:ident),+ $(,)?],
        about_last_seen: [$($seen:ident),+ $(,)?],
        about_groups: [$($group:ident),+ $(,)?],
        plain: [$($plain:ident),+ $(,)?] $(,)?
    ) => {
        /// The Lua scripts. Redis runs each of them atomically, and every transition is decided in one of them.
        #[derive(Debug)]
        pub(super) struct Scripts {
            $(pub(super) $announcing: Script,)+
            $(pub(super) $about: Script,)+
            $(pub(super) $call: Script,)+
            $(pub(super) $seen: Script,)+
            $(pub(super) $group: Script,)+
            $(pub(super) $plain: Script,)+
        }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self {
                    $($announcing: Script::new(text::$announcing),)+
                    $($about: Script::new(text::$about),)+
                    $($call: Script::new(text::$call),)+
                    $($seen: Script::new(text::$seen),)+
                    $($group: Script::new(text::$group),)+
                    $($plain: Script::new(text::$plain),)+
                }
            }

            /// The texts of all scripts.
            fn texts() -> Vec<&'static str> {
                let mut texts = vec![$(text::$announcing,)+ $(text::$about,)+ $(text::$seen,)+];
                texts.extend([$(text::$call,)+ $(text::$group,)+ $(text::$plain,)+]);
                texts
            }
        }

        #[expect(non_upper_case_globals, reason = "the constants have the names of the scripts")]
        mod text {
            $(pub(super) const $announcing: &str = scripts!($announcing, "announce.lua");)+
            $(
                pub(super) const $about: &str =
                    scripts!($about, "announce.lua", "outages.lua", "connections.lua", "states.lua");
            )+
            $(
                pub(super) const $seen: &str =
                    scripts!($seen, "announce.lua", "outages.lua", "connections.lua", "states.lua", "last_seen.lua");
            )+
            $(pub(super) const $call: &str = call_script!($call);)+
            $(
                pub(super) const $group: &str =
                    scripts!($group, "announce.lua", "outages.lua", "connections.lua", "groups.lua", "seats.lua");
            )+
            $(pub(super) const $plain: &str = scripts!($plain);)+
        }
    };
}

scripts!(
    announcing: [announced, history, recent, count],
    about_connections: [due, recheck, change, status, stated_groups],
    about_calls: [connect, disconnect],
    about_last_seen: [sweep, user],
    about_groups: [
        group_change,
        group_begin,
        group_complete,
        group_step,
        group_has,
        group_members,
        group_join,
        group_leave,
        group_due,
    ],
    plain: [
        extend,
        newest,
        group_record,
        group_forget,
        group_extend,
        member_of,
        claim_delivery,
        record_delivery,
        release_delivery,
        report_instance,
        withdraw_instance,
        instances,
        summary,
        report_move,
    ],
);

/// Runs within a transaction, where an unknown script could not be loaded and sent again. So its full text is sent, and
/// it has no prelude.
pub(super) const APPLY_SHORTENED: &str = include_str!("scripts/apply_shortened.lua");

impl Scripts {
    /// Loads all scripts, so that no call has to.
    pub(super) async fn load(commands: &MultiplexedConnection) -> Result<(), RedisError> {
        let loads: Vec<_> = Self::texts()
            .into_iter()
            .map(|text| load(commands.clone(), text))
            .collect();
        let loads = stream::iter(loads).buffer_unordered(LOADS);
        loads.try_collect().await
    }
}

async fn load(mut commands: MultiplexedConnection, text: &'static str) -> Result<(), RedisError> {
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(text);
    load.exec_async(&mut commands).await
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_script_is_named_in_the_architecture() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("a file");
        for entry in fs::read_dir(root.join("src/store/redis/scripts")).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let is_named = [format!("`{name}`"), format!("`{name}.lua`")];
            assert!(is_named.iter().any(|form| text.contains(form)), "{name}");
        }
    }
}
