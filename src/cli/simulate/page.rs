//! The page.
use crate::simulate::Report;
pub(super) fn page(_: &Report) -> String {
    String::new()
}
