#![no_main]
fuzz::target!(objectstore, forms);
