//! What the simulated programs log: nothing is shown, or everything with `--trace`.

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, field};

pub(crate) struct Log {
    pub(crate) shown: bool,
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Errors are taken even if they are not shown: a program that finds nobody listening may print them itself.
        self.shown || *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if self.shown {
            let mut line = String::new();
            event.record(&mut |field: &field::Field, value: &dyn std::fmt::Debug| {
                line.push_str(&format!(" {}={value:?}", field.name()));
            });
            eprintln!("{}{line}", event.metadata().level());
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
