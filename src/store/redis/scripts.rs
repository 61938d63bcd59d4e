use redis::Script;

/// Our Lua scripts. Each step that decides a transition is one of them, run atomically by Redis.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) touch: Script,
    pub(super) leave: Script,
    pub(super) due: Script,
    pub(super) sweep: Script,
    pub(super) user: Script,
    pub(super) announced: Script,
    pub(super) history: Script,
    pub(super) count: Script,
}

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("announce.lua"),
            "\n",
            include_str!($file)
        ))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            touch: script!("touch.lua"),
            leave: script!("leave.lua"),
            due: script!("due.lua"),
            sweep: script!("sweep.lua"),
            user: script!("user.lua"),
            announced: script!("announced.lua"),
            history: script!("history.lua"),
            count: script!("count.lua"),
        }
    }
}
