//! Overrides from the environment: `BALLAST_LIMITS__MIN_GAIN=0.02` sets `min_gain` of `[limits]`.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use toml::{Table, Value};

use super::file::File;
use super::problem::{Overridden, Problem, without_value};

/// What every override starts with.
const PREFIX: &str = "BALLAST_";

/// `table` with the overrides on top, read as a [`File`], and which variable set which key.
///
/// Variables without two underscores are left alone, `BALLAST_MODE` excepted: Kubernetes sets `BALLAST_SERVICE_HOST`
/// and its kin for any service called ballast.
pub(super) fn overlay(
    mut table: Table,
    variables: &BTreeMap<String, String>,
) -> Result<(File, Overridden), Vec<Problem>> {
    let mut overridden = Overridden::new();
    let mut problems = Vec::new();
    for (name, text) in variables {
        let Some(keys) = keys_of(name) else { continue };
        match typed(&keys, text) {
            Ok(value) => {
                overridden.insert(keys.join("."), name.clone());
                set(&mut table, &keys, value);
            }
            Err(message) => {
                problems.push(Problem { place: name.clone(), message, excerpt: String::new() });
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // Each part was accepted alone, so a refusal of the whole can only be about how the parts fit: an override below a
    // key that the file gives a plain value.
    let file = File::deserialize(table).map_err(|error| {
        let place = overridden.values().cloned().collect::<Vec<_>>().join(", ");
        vec![Problem { place, message: without_value(error.message()), excerpt: String::new() }]
    })?;
    Ok((file, overridden))
}

/// `limits`, `min_gain` for `BALLAST_LIMITS__MIN_GAIN`; nothing for a variable that is not for us.
fn keys_of(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(PREFIX)?;
    (rest == "MODE" || rest.contains("__")).then(|| rest.split("__").map(str::to_ascii_lowercase).collect())
}

/// The value in the type that the key takes: as TOML if that is accepted, else as text.
fn typed(keys: &[String], text: &str) -> Result<Value, String> {
    let accepted = |value: &Value| {
        let mut alone = Table::new();
        set(&mut alone, keys, value.clone());
        File::deserialize(alone).map(|_| ()).map_err(|error| without_value(error.message()))
    };
    let as_text = Value::String(text.to_owned());
    let as_toml = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    if let Some(value) = as_toml.filter(|value| accepted(value).is_ok()) {
        return Ok(value);
    }
    accepted(&as_text).map(|()| as_text)
}

/// Sets a value below a path of keys, making tables on the way.
fn set(table: &mut Table, keys: &[String], value: Value) {
    let Some((last, path)) = keys.split_last() else { return };
    let mut table = table;
    for key in path {
        let entry = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Value::Table(inner) = entry else { return };
        table = inner;
    }
    table.insert(last.clone(), value);
}
