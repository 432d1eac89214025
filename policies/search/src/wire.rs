//! Goals and report as text, for policies in any language.

use crate::goals::Goals;
use crate::problem::Problem;
use crate::search::solve;
use crate::view::{Move, View};

/// Plans for goals given as JSON; answers the moves and the report as JSON. This is the `search` import.
///
/// # Errors
/// When the goals are no goals, or do not fit the view; the text is for people.
pub fn solve_json(view: &View, goals: &str) -> Result<(Vec<Move>, String), String> {
    let goals: Goals = serde_json::from_str(goals).map_err(|error| format!("goals: {error}"))?;
    let problem = Problem::of(view, &goals).map_err(|error| format!("goals: {error}"))?;
    let solution = solve(&problem, &goals);
    let report = serde_json::to_string(&solution.report).map_err(|error| format!("report: {error}"))?;
    Ok((solution.moves, report))
}
