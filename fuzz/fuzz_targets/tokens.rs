#![no_main]
fuzz::target!(identity, tokens);
