#![no_main]
fuzz::target!(netagent, ovsdb);
