#![no_main]
fuzz::target!(objectstore, links);
