#![no_main]
fuzz::target!(objectstore, values);
