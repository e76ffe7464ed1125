//! `images_image_v2`, `images_image_access_v2` and the data source.

use super::{id, nothing_to_do};
use crate::cloud::Cloud;
use crate::gopher::{Api, Gopher};
use md5::{Digest, Md5};
use serde_json::{Value, json};

/// What gophercloud knows of an image; whatever else is there is a property, and the provider takes out of those what the
/// service itself adds: `os_*`, `stores` and `direct_url`.
const KNOWN: [&str; 21] = [
    "checksum",
    "container_format",
    "created_at",
    "disk_format",
    "file",
    "id",
    "locations",
    "min_disk",
    "min_ram",
    "name",
    "owner",
    "protected",
    "schema",
    "self",
    "size",
    "status",
    "tags",
    "updated_at",
    "virtual_size",
    "visibility",
    "direct_url",
];

pub async fn sequence(cloud: &Cloud, admin: &Gopher) {
    let file = std::fs::read(cloud.path("test-image.qcow2")).unwrap();
    let image = from_a_file(admin, &file).await;
    access(cloud, admin, &image).await;
    from_the_web(admin, &file).await;
    let api = admin.image();
    api.call("DELETE", &format!("images/{image}"), None, 204).await;
    assert_eq!(api.status(&format!("images/{image}")).await, 404);
}

fn properties(image: &Value) -> Value {
    let all = image.as_object().unwrap().iter();
    let own = all.filter(|(k, v)| {
        v.is_string() && !KNOWN.contains(&k.as_str()) && *k != "stores" && !k.starts_with("os_")
    });
    own.map(|(k, v)| (k.clone(), v.clone())).collect()
}

async fn patch(api: &Api<'_>, path: &str, change: Value) -> Value {
    let kind = [("content-type", "application/openstack-images-v2.1-json-patch")];
    let reply = api.send("PATCH", path, &kind, Some(change.to_string().into_bytes())).await;
    assert_eq!(reply.status, 200, "PATCH {path} {change}: {}", reply.json());
    reply.json()
}

/// A local file: written, read, changed in all its attributes.
async fn from_a_file(admin: &Gopher, file: &[u8]) -> String {
    let api = admin.image();
    let plain = json!({"name": "tf-image", "container_format": "bare", "disk_format": "qcow2", "min_disk": 1, "min_ram": 64,
        "protected": false, "visibility": "private"});
    let mut body = plain.clone();
    let own = json!({"hw_disk_bus": "virtio", "key1": "value1"});
    body.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    body["tags"] = json!(["one", "two"]);
    body["os_hidden"] = json!(false);
    let made = api.call("POST", "images", Some(body), 201).await;
    assert_eq!(made["status"], json!("queued"));
    let path = format!("images/{}", id(&made));
    let octets = [("content-type", "application/octet-stream")];
    let put = api.send("PUT", &format!("{path}/file"), &octets, Some(file.to_vec())).await;
    assert_eq!(put.status, 204, "{}", put.json());
    let read = api.until(&path, "/status", "active").await;
    nothing_to_do(&read, &plain);
    assert_eq!(properties(&read), own);
    assert_eq!(
        (&read["checksum"], &read["size"]),
        (&json!(hex::encode(Md5::digest(file))), &json!(file.len()))
    );
    assert_eq!(
        (&read["file"], &read["schema"]),
        (&json!(format!("/v2/{path}/file")), &json!("/v2/schemas/image"))
    );
    assert_eq!(read["owner"], json!(admin.project));
    let mut tags: Vec<_> = read["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["one", "two"]);

    // An apply without a change sends an empty patch.
    assert_eq!(patch(&api, &path, json!([])).await["updated_at"], read["updated_at"]);
    let change = json!([
        {"op": "replace", "path": "/visibility", "value": "shared"}, {"op": "replace", "path": "/name", "value": "tf-image2"},
        {"op": "replace", "path": "/os_hidden", "value": true}, {"op": "replace", "path": "/min_disk", "value": 2},
        {"op": "replace", "path": "/min_ram", "value": 128}, {"op": "replace", "path": "/protected", "value": true},
        {"op": "replace", "path": "/tags", "value": ["three"]}, {"op": "add", "path": "/key2", "value": "value2"},
        {"op": "replace", "path": "/hw_disk_bus", "value": "scsi"}, {"op": "remove", "path": "/key1"},
    ]);
    patch(&api, &path, change).await;
    let read = api.get(&path).await;
    nothing_to_do(
        &read,
        &json!({"name": "tf-image2", "visibility": "shared", "min_disk": 2, "min_ram": 128,
        "protected": true, "tags": ["three"], "os_hidden": true}),
    );
    assert_eq!(properties(&read), json!({"hw_disk_bus": "scsi", "key2": "value2"}));
    let back = json!([{"op": "replace", "path": "/protected", "value": false},
        {"op": "replace", "path": "/os_hidden", "value": false}]);
    patch(&api, &path, back).await;
    // The data source.
    let query =
        "images?name=tf-image2&visibility=shared&status=active&tag=three&sort=created_at:desc&size_min=1";
    let found = api.get(query).await["images"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["id"], made["id"]);
    id(&made)
}

/// Shared with another project, which takes it: `images_image_access_v2` and `…_access_accept_v2`.
async fn access(cloud: &Cloud, admin: &Gopher, image: &str) {
    let other = Gopher::login(cloud, "demo", "demo", crate::gopher::Era::V2).await;
    let (api, theirs) = (admin.image(), other.image());
    let all = format!("images/{image}/members");
    let one = format!("{all}/{}", other.project);
    let made = api.call("POST", &all, Some(json!({"member": other.project})), 200).await;
    let want = json!({"member_id": other.project, "image_id": image, "status": "pending"});
    nothing_to_do(&made, &want);
    nothing_to_do(&api.get(&one).await, &want);
    let taken = theirs.call("PUT", &one, Some(json!({"status": "accepted"})), 200).await;
    nothing_to_do(&taken, &json!({"status": "accepted", "schema": "/v2/schemas/member"}));
    let seen = theirs.get("images?visibility=shared&member_status=accepted").await["images"].clone();
    assert!(seen.as_array().unwrap().iter().any(|i| i["id"] == image), "{seen}");
    api.call("DELETE", &one, None, 204).await;
    assert_eq!(api.status(&one).await, 404);
    assert_eq!(theirs.status(&format!("images/{image}")).await, 404);
}

/// `web_download`, here from the cloud's own object store.
async fn from_the_web(admin: &Gopher, file: &[u8]) {
    let (api, objects) = (admin.image(), admin.object());
    let put = objects.send("PUT", "tf-web", &[("x-container-read", ".r:*")], None).await;
    assert_eq!(put.status, 201);
    assert_eq!(objects.send("PUT", "tf-web/image", &[], Some(file.to_vec())).await.status, 201);
    let body = json!({"name": "tf-web", "container_format": "bare", "disk_format": "qcow2", "visibility": "private",
        "protected": false, "min_disk": 0, "min_ram": 0});
    let made = api.call("POST", "images", Some(body.clone()), 201).await;
    let path = format!("images/{}", id(&made));
    let import = json!({"method": {"name": "web-download", "uri": objects.url("tf-web/image")}});
    api.call("POST", &format!("{path}/import"), Some(import), 202).await;
    let read = api.until(&path, "/status", "active").await;
    nothing_to_do(&read, &body);
    assert_eq!((properties(&read), &read["size"]), (json!({}), &json!(file.len())));
    api.call("DELETE", &path, None, 204).await;
    for one in ["tf-web/image", "tf-web"] {
        objects.delete(one).await;
    }
}
