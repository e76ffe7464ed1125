//! `objectstorage_container_v1`, `…_object_v1`, `…_tempurl_v1` and `…_account_v1`.

use crate::gopher::{Api, Gopher, Reply};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use serde_json::json;
use sha2::Sha256;
use std::time::SystemTime;

pub async fn sequence(admin: &Gopher) {
    let api = admin.object();
    containers(&api).await;
    versions(&api).await;
    objects(&api).await;
    temporary_urls(&api).await;
    account(&api).await;
}

/// One call without a body, and the statuses that gophercloud takes.
async fn call(api: &Api<'_>, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let reply = api.send(method, path, headers, None).await;
    let ok: &[u16] = match method {
        "PUT" | "POST" => &[201, 202, 204],
        "HEAD" => &[200, 204],
        "DELETE" => &[202, 204],
        _ => &[200],
    };
    assert!(ok.contains(&reply.status), "{method} {path}: {} {}", reply.status, reply.json());
    reply
}

fn has(reply: &Reply, wanted: &[(&str, &str)]) {
    for (name, value) in wanted {
        assert_eq!(reply.header(name), Some(*value), "{name}");
    }
}

async fn containers(api: &Api<'_>) {
    let read = ".r:-.hostname.domain,.rlistings";
    let own = [
        ("X-Container-Read", read),
        ("X-Container-Write", "*:*"),
        ("X-Container-Meta-Test", "true"),
        ("X-Container-Meta-Upper-Case", "Value"),
    ];
    call(api, "PUT", "tf-box", &own).await;
    let head = call(api, "HEAD", "tf-box", &[]).await;
    has(&head, &own);
    assert!(head.header("X-Storage-Policy").is_some(), "the policy is computed and would stay unknown");
    let policy = head.header("X-Storage-Policy").unwrap().to_owned();
    has(&head, &[("X-Container-Object-Count", "0"), ("X-Container-Bytes-Used", "0")]);
    // An update names all that can be changed, also what is empty.
    let change = [
        ("X-Container-Read", ""),
        ("X-Container-Write", ""),
        ("X-Container-Sync-To", ""),
        ("X-Container-Sync-Key", ""),
        ("Content-Type", ""),
        ("X-Container-Meta-Test", "false"),
    ];
    call(api, "POST", "tf-box", &change).await;
    let head = call(api, "HEAD", "tf-box", &[]).await;
    assert_eq!((head.header("X-Container-Read"), head.header("X-Container-Write")), (None, None));
    has(&head, &[("X-Container-Meta-Test", "false"), ("X-Container-Meta-Upper-Case", "Value")]);
    // Made again with what is there, as after a state that was lost.
    call(api, "PUT", "tf-box", &[("X-Storage-Policy", &policy)]).await;
    call(api, "DELETE", "tf-box", &[]).await;
    assert_eq!(api.send("HEAD", "tf-box", &[], None).await.status, 404);
    assert_eq!(api.send("DELETE", "tf-box", &[], None).await.status, 404);
}

/// Both kinds of versioning, from one to the other, and a forced destroy with versions.
async fn versions(api: &Api<'_>) {
    call(api, "PUT", "tf-old", &[]).await;
    call(api, "PUT", "tf-box", &[("X-Versions-Location", "tf-old")]).await;
    has(&call(api, "HEAD", "tf-box", &[]).await, &[("X-Versions-Location", "tf-old")]);
    call(
        api,
        "POST",
        "tf-box",
        &[("X-Remove-Versions-Location", "true"), ("X-Remove-History-Location", "true")],
    )
    .await;
    call(api, "POST", "tf-box", &[("X-History-Location", "tf-old")]).await;
    let head = call(api, "HEAD", "tf-box", &[]).await;
    has(&head, &[("X-History-Location", "tf-old")]);
    assert_eq!(head.header("X-Versions-Location"), None);
    call(
        api,
        "POST",
        "tf-box",
        &[("X-Remove-Versions-Location", "true"), ("X-Remove-History-Location", "true")],
    )
    .await;
    call(api, "POST", "tf-box", &[("X-Versions-Enabled", "true")]).await;
    let enabled = call(api, "HEAD", "tf-box", &[]).await;
    assert!(enabled.header("X-Versions-Enabled").is_some_and(|v| v.eq_ignore_ascii_case("true")));
    for content in ["one", "two"] {
        assert_eq!(api.send("PUT", "tf-box/thing", &[], Some(content.into())).await.status, 201);
    }
    assert_eq!(api.send("DELETE", "tf-box", &[], None).await.status, 409);
    let listed = api.get("tf-box?versions=true&format=json").await;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    // The pages end: gophercloud asks for what is behind the last name until there is nothing.
    assert_eq!(api.get("tf-box?versions=true&format=json&marker=thing").await, json!([]));
    for version in listed.as_array().unwrap() {
        let (name, id) = (version["name"].as_str().unwrap(), version["version_id"].as_str().unwrap());
        call(api, "DELETE", &format!("tf-box/{name}?version-id={id}"), &[]).await;
    }
    for one in ["tf-box", "tf-old"] {
        call(api, "DELETE", one, &[]).await;
    }
}

/// One object: its content, what it is copied from, and every header that it may have.
async fn objects(api: &Api<'_>) {
    call(api, "PUT", "tf-box", &[]).await;
    let md5 = |content: &str| hex::encode(Md5::digest(content));
    let at =
        (SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 86_400).to_string();
    let etag = md5("content");
    let own = [
        ("ETag", etag.as_str()),
        ("Content-Type", "text/plain"),
        ("Content-Disposition", "attachment; filename=\"f\""),
        ("X-Object-Meta-Race", "human"),
        ("X-Delete-At", &at),
    ];
    let put = api.send("PUT", "tf-box/a%20b.txt", &own, Some("content".into())).await;
    assert_eq!((put.status, put.header("etag")), (201, Some(etag.as_str())));
    let head = call(api, "HEAD", "tf-box/a%20b.txt", &[]).await;
    has(&head, &own);
    has(&head, &[("Content-Length", "7")]);
    assert!(head.header("X-Trans-Id").is_some() && head.header("Last-Modified").is_some());
    let wrong = api.send("PUT", "tf-box/wrong", &[("ETag", &etag)], Some("other".into())).await;
    assert_eq!(wrong.status, 422);
    // The type by the name, and no more headers than are wanted.
    let detect = [("X-Detect-Content-Type", "true"), ("Content-Type", "application/octet-stream")];
    assert_eq!(api.send("PUT", "tf-box/page.html", &detect, Some("<p>".into())).await.status, 201);
    has(&call(api, "HEAD", "tf-box/page.html", &[]).await, &[("Content-Type", "text/html")]);
    // A copy comes with the checksum of the empty body that the request has; it is not the copy's.
    let empty = md5("");
    let copy = [("X-Copy-From", "/tf-box/a%20b.txt"), ("ETag", empty.as_str())];
    assert_eq!(api.send("PUT", "tf-box/copy", &copy, Some(Vec::new())).await.status, 201);
    has(&call(api, "HEAD", "tf-box/copy", &[]).await, &[("ETag", &etag), ("Content-Length", "7")]);
    // So does a manifest.
    for (part, content) in [("parts/1", "hello "), ("parts/2", "world")] {
        let etag = md5(content);
        let put = api.send("PUT", &format!("tf-box/{part}"), &[("ETag", &etag)], Some(content.into())).await;
        assert_eq!(put.status, 201);
    }
    let manifest = [("X-Object-Manifest", "tf-box/parts/"), ("ETag", empty.as_str())];
    assert_eq!(api.send("PUT", "tf-box/whole", &manifest, Some(Vec::new())).await.status, 201);
    let head = call(api, "HEAD", "tf-box/whole", &[]).await;
    has(&head, &[("X-Object-Manifest", "tf-box/parts/"), ("Content-Length", "11")]);
    // What changes is written anew, without a checksum.
    let own = [("Content-Type", "text/plain"), ("X-Object-Meta-Race", "elf")];
    assert_eq!(api.send("PUT", "tf-box/a%20b.txt", &own, Some("more".into())).await.status, 201);
    let head = call(api, "HEAD", "tf-box/a%20b.txt", &[]).await;
    has(&head, &[("ETag", &md5("more")), ("X-Object-Meta-Race", "elf")]);
    assert_eq!(head.header("X-Delete-At"), None);
    let all = api.get("tf-box?format=json").await;
    for object in all.as_array().unwrap() {
        call(api, "DELETE", &format!("tf-box/{}", object["name"].as_str().unwrap().replace(' ', "%20")), &[])
            .await;
    }
    assert_eq!(api.send("DELETE", "tf-box/copy", &[], None).await.status, 404);
    call(api, "DELETE", "tf-box", &[]).await;
}

/// `objectstorage_tempurl_v1`: the provider reads the key of the container, else of the account, and signs.
async fn temporary_urls(api: &Api<'_>) {
    call(api, "PUT", "tf-box", &[("X-Container-Meta-Temp-URL-Key", "container-key")]).await;
    assert_eq!(api.send("PUT", "tf-box/thing", &[], Some("content".into())).await.status, 201);
    let head = call(api, "HEAD", "tf-box", &[]).await;
    let key = head.header("X-Container-Meta-Temp-Url-Key").unwrap().to_owned();
    let whole = api.url("tf-box/thing");
    let path = &whole[whole.find("/v1/").unwrap()..];
    let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 60;
    let sign = |method: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(format!("{method}\n{expires}\n{path}").as_bytes());
        hex::encode(mac.finalize().into_bytes())
    };
    let get = |signature: String| {
        let url = format!("{whole}?temp_url_sig={signature}&temp_url_expires={expires}");
        async move { reqwest::get(url).await.unwrap() }
    };
    assert_eq!(get(sign("GET")).await.text().await.unwrap(), "content");
    assert_eq!(get(sign("POST")).await.status(), 401);
    for one in ["tf-box/thing", "tf-box"] {
        call(api, "DELETE", one, &[]).await;
    }
}

async fn account(api: &Api<'_>) {
    call(api, "POST", "", &[("X-Account-Meta-Test", "1"), ("X-Account-Meta-Temp-Url-Key", "account-key")])
        .await;
    let head = call(api, "HEAD", "", &[]).await;
    has(&head, &[("X-Account-Meta-Test", "1"), ("X-Account-Meta-Temp-Url-Key", "account-key")]);
    for count in ["X-Account-Container-Count", "X-Account-Object-Count", "X-Account-Bytes-Used"] {
        assert!(head.header(count).is_some_and(|n| n.parse::<u64>().is_ok()), "{count}");
    }
    let gone = [("X-Remove-Account-Meta-Test", "remove"), ("X-Remove-Account-Meta-Temp-Url-Key", "remove")];
    call(api, "POST", "", &gone).await;
    let head = call(api, "HEAD", "", &[]).await;
    assert_eq!(
        (head.header("X-Account-Meta-Test"), head.header("X-Account-Meta-Temp-Url-Key")),
        (None, None)
    );
}
