#![no_main]
fuzz::target!(api, queries);
