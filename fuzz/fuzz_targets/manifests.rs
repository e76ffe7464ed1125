#![no_main]
fuzz::target!(objectstore, manifests);
