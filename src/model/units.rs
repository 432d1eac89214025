//! Quantities as people write them: `5s`, `10m`, `64MiB`, `1 key`.
//!
//! For `#[serde(with = "units::duration")]` and `#[serde(with = "units::size")]`.

use std::fmt::Display;

/// So many of something: `1 primary`, `6 primaries`.
pub fn counted<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

/// Durations: `250ms`, `5s`, `1h 30m`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Reads a duration.
    ///
    /// # Errors
    /// When the text is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    /// Writes a duration as [`deserialize`] reads it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// The duration that `text` says.
    ///
    /// # Errors
    /// A sentence for people when it says none.
    pub fn parse(text: &str) -> Result<Duration, String> {
        humantime::parse_duration(text)
            .map_err(|_| format!("'{text}' is not a duration: write a number and a unit, such as 250ms, 5s, 10m, 1h"))
    }
}

/// Sizes in bytes: `512`, `64KiB`, `1.5 GiB`, `10GB`.
pub mod size {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    /// Unit names, largest first; `KB` and its kin are powers of ten, `KiB` and its kin powers of two.
    const UNITS: [(&str, f64); 9] = [
        ("TiB", 1_099_511_627_776.0),
        ("GiB", 1_073_741_824.0),
        ("MiB", 1_048_576.0),
        ("KiB", 1024.0),
        ("TB", 1e12),
        ("GB", 1e9),
        ("MB", 1e6),
        ("KB", 1e3),
        ("B", 1.0),
    ];

    /// The bytes that `text` says.
    ///
    /// # Errors
    /// A sentence for people when it says none.
    pub fn parse(text: &str) -> Result<u64, String> {
        let wrong = || format!("'{text}' is not a size: write a number and a unit, such as 512B, 64MiB, 2GiB");
        let trimmed = text.trim();
        let (number, factor) = UNITS
            .iter()
            .find_map(|(unit, factor)| trimmed.strip_suffix(unit).map(|number| (number, *factor)))
            .unwrap_or((trimmed, 1.0));
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let bytes = number * factor;
        // NaN is in no range.
        if (0.0..9e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
    }

    /// The size in the largest binary unit that it fills, with one decimal unless it is whole.
    #[must_use]
    pub fn format(bytes: u64) -> String {
        let (unit, factor) =
            UNITS[..4].iter().find(|(_, factor)| bytes as f64 >= *factor).copied().unwrap_or(("B", 1.0));
        let number = bytes as f64 / factor;
        if number.fract() == 0.0 { format!("{number:.0}{unit}") } else { format!("{number:.1}{unit}") }
    }

    /// Reads a size: text with a unit, or a plain number of bytes.
    ///
    /// # Errors
    /// When it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
                parse(text).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
                u64::try_from(bytes).map_err(|_| E::custom("a size is not negative"))
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_any(Visitor)
    }

    /// Writes a size as [`deserialize`] reads it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(*bytes))
    }
}

/// A [`size`] that may be left out.
pub mod some_size {
    use serde::{Deserializer, Serialize as _, Serializer};

    use super::size;

    /// Reads a size that is there.
    ///
    /// # Errors
    /// As [`size::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        size::deserialize(deserializer).map(Some)
    }

    /// Writes it as [`size::format`] does.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.map(size::format).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, size};

    #[test]
    fn sizes_read_what_they_write() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65536), ("64MiB", 67_108_864), ("2GiB", 2_147_483_648)] {
            assert_eq!(size::parse(text), Ok(bytes));
            assert_eq!(size::format(bytes), text);
        }
        assert_eq!(size::parse("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(size::parse("10MB"), Ok(10_000_000));
    }

    #[test]
    fn texts_without_sense_are_named() {
        for text in ["", "GiB", "many", "-1MiB", "nan", "1e99TiB"] {
            assert!(size::parse(text).is_err(), "{text}");
        }
        assert!(duration::parse("5").is_err_and(|error| error.contains("'5' is not a duration")));
    }
}
