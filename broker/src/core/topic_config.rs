//! A topic's settings: names and defaults as Kafka documents them (<https://kafka.apache.org/documentation/#topicconfigs>).
//!
//! A topic stores its overrides only; what it doesn't override follows the broker's defaults. A setting that isn't
//! known, or a value that isn't served (compaction, log append time), is refused, never ignored.

use std::collections::BTreeMap;

use super::log::Retention;

/// Overrides by name.
pub type Overrides = BTreeMap<String, String>;

/// The broker's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// `retention.ms`.
    pub retention_ms: i64,
    /// `retention.bytes`.
    pub retention_bytes: i64,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `max.message.bytes`.
    pub message_bytes_max: usize,
    /// The most that a topic may set `max.message.bytes` to.
    pub message_bytes_limit: usize,
}

/// The smallest `segment.bytes`: Kafka's own.
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;

/// Kafka's type numbers in DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// 2
    Text = 2,
    /// 3
    Int = 3,
    /// 5
    Long = 5,
    /// 7
    List = 7,
}

/// One setting as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// Its value now.
    pub value: String,
    /// Whether the topic overrides it.
    pub overridden: bool,
    /// Its type.
    pub kind: Type,
    /// The broker's default.
    pub default: String,
}

const NAMES: [(&str, Type); 9] = [
    ("cleanup.policy", Type::List),
    ("compression.type", Type::Text),
    ("max.message.bytes", Type::Int),
    ("message.timestamp.type", Type::Text),
    ("min.insync.replicas", Type::Int),
    ("retention.bytes", Type::Long),
    ("retention.ms", Type::Long),
    ("segment.bytes", Type::Int),
    ("segment.ms", Type::Long),
];

/// Whether `value` may be set.
///
/// # Errors
/// What to tell the client with INVALID_CONFIG.
pub fn validate(name: &str, value: &str, defaults: &Defaults) -> Result<(), String> {
    let fixed = |served: &str, why: &str| {
        if value == served { Ok(()) } else { Err(format!("{name}={value} is not served: {why}")) }
    };
    let number = |min: i64, max: i64| match value.trim().parse::<i64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(()),
        _ => Err(format!("{name}={value}: expected a number from {min} to {max}")),
    };
    match name {
        "cleanup.policy" => fixed("delete", "logs are not compacted, only \"delete\""),
        "compression.type" => fixed("producer", "batches are stored as produced, only \"producer\""),
        "message.timestamp.type" => fixed("CreateTime", "only \"CreateTime\""),
        "min.insync.replicas" => fixed("1", "there is one replica"),
        "retention.ms" | "retention.bytes" => number(-1, i64::MAX),
        "segment.ms" => number(1, i64::MAX),
        "segment.bytes" => number(SEGMENT_BYTES_MIN as i64, i64::from(i32::MAX)),
        "max.message.bytes" => number(0, defaults.message_bytes_limit as i64),
        _ => Err(format!("unknown topic setting {name}")),
    }
}

fn default_of(name: &str, defaults: &Defaults) -> String {
    match name {
        "cleanup.policy" => "delete".into(),
        "compression.type" => "producer".into(),
        "message.timestamp.type" => "CreateTime".into(),
        "min.insync.replicas" => "1".into(),
        "retention.ms" => defaults.retention_ms.to_string(),
        "retention.bytes" => defaults.retention_bytes.to_string(),
        "segment.ms" => defaults.segment_ms.to_string(),
        "segment.bytes" => defaults.segment_bytes.to_string(),
        "max.message.bytes" => defaults.message_bytes_max.to_string(),
        _ => String::new(),
    }
}

/// Every setting of a topic with these overrides, by name.
#[must_use]
pub fn settings(overrides: &Overrides, defaults: &Defaults) -> Vec<Setting> {
    NAMES
        .iter()
        .map(|&(name, kind)| {
            let default = default_of(name, defaults);
            let set = overrides.get(name);
            Setting {
                name,
                value: set.cloned().unwrap_or_else(|| default.clone()),
                overridden: set.is_some(),
                kind,
                default,
            }
        })
        .collect()
}

/// What limits a topic's logs.
#[must_use]
pub fn retention(overrides: &Overrides, defaults: &Defaults) -> Retention {
    let number =
        |name: &str, default: i64| overrides.get(name).and_then(|v| v.trim().parse().ok()).unwrap_or(default);
    Retention {
        retention_ms: number("retention.ms", defaults.retention_ms),
        retention_bytes: number("retention.bytes", defaults.retention_bytes),
        segment_bytes: number("segment.bytes", defaults.segment_bytes as i64) as u64,
        segment_ms: number("segment.ms", defaults.segment_ms),
    }
}

/// A topic's `max.message.bytes`.
#[must_use]
pub fn message_bytes_max(overrides: &Overrides, defaults: &Defaults) -> usize {
    let set = overrides.get("max.message.bytes").and_then(|v| v.trim().parse().ok());
    set.unwrap_or(defaults.message_bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) const DEFAULTS: Defaults = Defaults {
        retention_ms: 1000,
        retention_bytes: -1,
        segment_bytes: 1 << 28,
        segment_ms: 7000,
        message_bytes_max: 1 << 20,
        message_bytes_limit: 1 << 24,
    };

    #[test]
    fn what_is_not_served_is_refused() {
        for (name, value) in [
            ("cleanup.policy", "compact"),
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("segment.bytes", "10"),
            ("max.message.bytes", "16777217"),
            ("message.timestamp.type", "LogAppendTime"),
            ("colour", "blue"),
        ] {
            assert!(validate(name, value, &DEFAULTS).is_err(), "{name}={value}");
        }
        for setting in settings(&Overrides::new(), &DEFAULTS) {
            assert_eq!(validate(setting.name, &setting.value, &DEFAULTS), Ok(()), "{}", setting.name);
        }
    }

    #[test]
    fn overrides_count() {
        let overrides = Overrides::from([("retention.ms".into(), "5".into())]);
        assert_eq!(retention(&overrides, &DEFAULTS).retention_ms, 5);
        assert_eq!(retention(&overrides, &DEFAULTS).segment_bytes, 1 << 28);
        let settings = settings(&overrides, &DEFAULTS);
        let set: Vec<_> =
            settings.iter().filter(|s| s.overridden).map(|s| (s.name, s.value.as_str())).collect();
        assert_eq!(set, [("retention.ms", "5")]);
    }
}
