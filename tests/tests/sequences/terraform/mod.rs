//! Terraform's OpenStack provider: the life of each resource of the storage services. What is read back must be what was
//! written, else the next plan is not empty and never will be.

mod images;
mod objects;
mod volumes;

use crate::cloud::Cloud;
use crate::gopher::Gopher;
use serde_json::Value;

pub async fn sequence(cloud: &Cloud, admin: &Gopher, server: &str) {
    tokio::join!(volumes::sequence(admin, server), images::sequence(cloud, admin), objects::sequence(admin),);
}

/// The plan after an apply: empty, as all that was written is what is read.
fn nothing_to_do(read: &Value, written: &Value) {
    for (key, value) in written.as_object().unwrap() {
        assert_eq!(&read[key], value, "{key} differs in every plan: {read}");
    }
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}
