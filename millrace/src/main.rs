//! One command for the whole site.

fn main() {}
