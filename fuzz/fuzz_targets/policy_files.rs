#![no_main]
fuzz::target!(api, policy_files);
