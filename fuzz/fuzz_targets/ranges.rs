#![no_main]
fuzz::target!(objectstore, ranges);
