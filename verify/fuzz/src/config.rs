//! Configuration files: `ops::config`, with the one of geodns, which has every shape a daemon's has.

/// The longest text tried, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Reads `data` as a configuration.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > TEXT_BYTES_MAX {
        return;
    }
    crate::bounded(text.len(), 4096, || read(text));
}

/// What loads is shown on `/config` as something that loads and shows the same; an error names its place.
fn read(text: &str) {
    match ops::config::parse::<geodns::Config>(text, "fuzz.toml") {
        Ok(config) => {
            let shown = ops::config::render(&config);
            let again: geodns::Config =
                ops::config::parse(&shown, "shown.toml").expect("what is shown loads");
            assert_eq!(ops::config::render(&again), shown);
            // A zone's file would be opened: whichever path the fuzzer thinks of is not to be.
            if config.zone.iter().all(|zone| zone.file.is_none()) {
                let _ = config.load();
            }
        }
        Err(error) => assert!(error.to_string().starts_with("fuzz.toml:"), "{error}"),
    }
}
