#![no_main]
fuzz::target!(imagestore, converter);
