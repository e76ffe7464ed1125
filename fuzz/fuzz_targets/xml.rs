#![no_main]
fuzz::target!(objectstore, xml);
