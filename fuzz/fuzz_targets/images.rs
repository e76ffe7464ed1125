#![no_main]
fuzz::target!(imagestore, images);
