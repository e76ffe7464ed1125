#![no_main]
fuzz::target!(objectstore, policies);
