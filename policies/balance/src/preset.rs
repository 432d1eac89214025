//! Named sets of parameters: what an operator starts from, and changes key by key.

use serde_json::{Map, Value, json};

/// Every preset by name, with what it sets; `docs/balance.md` says when to use which.
pub(crate) fn all() -> [(&'static str, Value); 5] {
    [
        // Cpu first, then memory, then network: what clients feel is held closest.
        ("cpu-first", json!({})),
        // Where memory is what runs out: it triggers early and is held close, cpu may lag.
        (
            "memory-first",
            json!({"resources": [
                {"name": "memory", "trigger": 1.1, "target": 1.05, "ceiling": 0.85},
                {"name": "cpu", "trigger": 1.25, "target": 1.1, "weight": 0.5},
                {"name": "network", "trigger": 1.5, "target": 1.2, "weight": 0.25},
            ]}),
        ),
        // Few hot slots among many: cpu alone decides, and early; what moves is small.
        (
            "hot-slots",
            json!({"resources": [
                {"name": "cpu", "trigger": 1.1, "target": 1.03},
                {"name": "memory", "trigger": 1.5, "target": 1.3, "weight": 0.25},
            ]}),
        ),
        // Load comes and goes, or moving is dear: only what lasts and is large is acted on.
        ("calm", json!({"trigger": 1.3, "target": 1.1, "sigmas": 4, "patience": 4, "rest-cycles": 360})),
        // Zones matter: slots stay in theirs, so that no traffic crosses them because of us.
        ("keep-zones", json!({"keep-zone": true})),
    ]
}

/// The parameters as written, over those of their preset.
///
/// # Errors
/// When there is no such preset; the text names those that there are.
pub(crate) fn apply(written: Value) -> Result<Value, String> {
    let Value::Object(mut written) = written else { return Ok(written) };
    let Some(name) = written.remove("preset") else { return Ok(Value::Object(written)) };
    let found = all().into_iter().find(|(known, _)| name == *known);
    let Some((_, Value::Object(preset))) = found else {
        let known: Vec<&str> = all().iter().map(|(name, _)| *name).collect();
        return Err(format!("preset: {name} is none of {}", known.join(", ")));
    };
    let mut merged: Map<String, Value> = preset;
    merged.extend(written);
    Ok(Value::Object(merged))
}
