// Heads without a norm.
fn norm_head(is_query: bool, thread: u32) {}
