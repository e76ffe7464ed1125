#![no_main]
fuzz::target!(imagestore, patches);
