//! Numbers of the command line, with errors that say what a number may be.

/// Something to have or to do one of, at least.
pub fn one_or_more(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "it must be a whole number of 1 or more".into())
}
