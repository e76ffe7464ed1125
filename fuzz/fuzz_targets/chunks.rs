#![no_main]
fuzz::target!(objectstore, chunks);
