#![no_main]
fuzz::target!(objectstore, acls);
