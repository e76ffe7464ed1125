#![no_main]
fuzz::target!(objectstore, signatures);
