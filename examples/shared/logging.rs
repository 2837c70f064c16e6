//! The log of the examples.

/// Shows warnings on stderr; the environment variable RUST_LOG asks for more or less.
pub fn start() {
    let environment = env_logger::Env::default().default_filter_or("warn");
    env_logger::Builder::from_env(environment).format_timestamp(None).format_target(false).init();
}
