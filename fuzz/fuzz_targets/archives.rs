#![no_main]
fuzz::target!(objectstore, archives);
