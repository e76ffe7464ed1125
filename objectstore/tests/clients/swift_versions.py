"""Swift's versions on the wire: status codes, headers and listings as upstream's object_versioning and
versioned_writes have them."""
import http.client, json, os, time, urllib.parse

host = urllib.parse.urlparse(os.environ["SWIFT_URL"])


def call(method, path="", body=b"", chunked=False, **headers):
    c = http.client.HTTPConnection(host.netloc, timeout=30)
    headers = {"X-Auth-Token": "p:member"} | {k.replace("_", "-"): v for k, v in headers.items()}
    if body is not None and not chunked:
        headers["Content-Length"] = str(len(body))
    c.request(method, host.path + path, body=iter([body]) if chunked else body, headers=headers, encode_chunked=chunked)
    r = c.getresponse()
    return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()


def versions(container, query=""):
    s, h, b = call("GET", f"/{container}?versions&format=json{query}")
    assert s == 200 and h["content-type"].startswith("application/json"), (s, h)
    return json.loads(b)


def short(container, query=""):
    return [(v["name"], v["version_id"], v["is_latest"]) for v in versions(container, query)]


# Never enabled.
assert call("PUT", "/c")[0] == 201
assert call("PUT", "/c/o", b"null")[0] == 201
assert "x-versions-enabled" not in call("HEAD", "/c")[1] and "x-object-version-id" not in call("HEAD", "/c/o")[1]
assert call("GET", "/c/o?version-id=1234567890.12345")[0] == 400
assert call("GET", "/c/o?version-id=null")[2] == b"null"
assert short("c") == [("o", "null", True)]
assert call("POST", "/c/o?version-id=null")[0] == 400
# Enabled.
assert call("POST", "/c", X_Versions_Enabled="true")[0] == 204
assert call("HEAD", "/c")[1]["x-versions-enabled"] == "True"
assert call("HEAD", "/c/o")[1]["x-object-version-id"] == "null"
ids = ["null"]
for n in range(3):
    s, h, _ = call("PUT", "/c/o", b"%d" % n * 100, X_Object_Meta_N=str(n))
    assert s == 201
    ids.append(h["x-object-version-id"])
s, h, b = call("GET", "/c/o")
assert b == b"2" * 100 and h["x-object-version-id"] == ids[3]
assert h["content-location"] == f"{host.path}/c/o?version-id={ids[3]}"
for i, want in zip(ids, [b"null", b"0" * 100, b"1" * 100, b"2" * 100]):
    s, h, b = call("GET", f"/c/o?version-id={i}")
    assert (s, b, h["x-object-version-id"]) == (200, want, i)
assert call("GET", f"/c/o?version-id={ids[1]}")[1]["x-object-meta-n"] == "0"
assert short("c") == [("o", i, i == ids[3]) for i in reversed(ids)]
v = versions("c")[0]
assert (v["bytes"], v["content_type"]) == (100, "application/octet-stream") and len(v["hash"]) == 32 and "T" in v["last_modified"]
h = call("HEAD", "/c")[1]
assert h["x-container-object-count"] == "1" and h["x-container-bytes-used"] == "304"
# Ids that are none.
assert call("GET", "/c/o?version-id=nonsense")[0] == 400
assert call("GET", "/c/o?version-id=1234567890.12345")[0] == 404
assert call("GET", "/c/o?version-id=" + "0" * 32)[0] == 404
assert call("DELETE", "/c/o?version-id=" + "0" * 32)[0] == 404
assert call("POST", f"/c/o?version-id={ids[1]}")[0] == 400
# Restoring: no new version, only another latest.
assert call("PUT", f"/c/o?version-id={ids[1]}", b"body")[0] == 400
assert call("PUT", f"/c/o?version-id=1234567890.12345")[0] == 404
s, h, _ = call("PUT", f"/c/o?version-id={ids[1]}")
assert s == 201 and h["x-object-version-id"] == ids[1]
assert call("GET", "/c/o")[2] == b"0" * 100
assert sorted(short("c")) == sorted(("o", i, i == ids[1]) for i in ids)
# COPY of a version, and by X-Copy-From.
assert call("COPY", f"/c/o?version-id={ids[2]}", Destination="c/copied")[0] == 201
assert call("GET", "/c/copied")[2] == b"1" * 100
assert call("PUT", "/c/copied2", X_Copy_From=f"c/o?version-id={ids[3]}")[0] == 201
assert call("GET", "/c/copied2")[2] == b"2" * 100
# POST changes the latest in place.
assert call("POST", "/c/o", X_Object_Meta_Posted="yes")[0] == 202
h = call("HEAD", "/c/o")[1]
assert h["x-object-meta-posted"] == "yes" and h["x-object-version-id"] == ids[1]
# Deleting makes a marker; also of what is not there.
s, h, _ = call("DELETE", "/c/o")
marker = h["x-object-version-id"]
assert s == 204 and marker not in ids
s, h, _ = call("GET", "/c/o")
assert s == 404 and h["x-object-version-id"] == "null"
s, h, _ = call("GET", f"/c/o?version-id={marker}")
assert s == 404 and h["x-object-version-id"] == marker and h["content-type"] == "application/x-deleted;swift_versions_deleted=1"
top = versions("c", "&prefix=o")[0]
assert (top["version_id"], top["is_latest"], top["bytes"]) == (marker, True, 0)
assert top["content_type"] == "application/x-deleted;swift_versions_deleted=1" and top["hash"] == "d41d8cd98f00b204e9800998ecf8427e"
s, h, _ = call("DELETE", "/c/never")
assert s == 404 and h["x-object-version-id"]
assert "o" not in call("GET", "/c")[2].decode().split()
# Deleting versions: nothing takes the place of the latest by itself.
s, h, _ = call("DELETE", f"/c/o?version-id={marker}")
assert s == 204 and h["x-object-version-id"] == marker and h["x-object-current-version-id"] == "null"
assert call("GET", "/c/o")[0] == 404
assert call("PUT", f"/c/o?version-id={ids[3]}")[0] == 201
s, h, _ = call("DELETE", f"/c/o?version-id={ids[2]}")
assert h["x-object-current-version-id"] == ids[3]
s, h, _ = call("DELETE", f"/c/o?version-id={ids[3]}")
assert s == 204 and h["x-object-current-version-id"] == "null"
assert call("GET", "/c/o")[0] == 404 and call("GET", f"/c/o?version-id={ids[1]}")[0] == 200
# Suspended: writes are the null version; a deletion takes the latest away, and leaves no marker.
assert call("POST", "/c", X_Versions_Enabled="false")[0] == 204
assert call("HEAD", "/c")[1]["x-versions-enabled"] == "False"
n = len(versions("c", "&prefix=o"))
s, h, _ = call("PUT", "/c/o", b"suspended")
assert s == 201 and "x-object-version-id" not in h
assert call("HEAD", "/c/o")[1]["x-object-version-id"] == "null"
assert call("DELETE", "/c/o")[0] == 204 and call("DELETE", "/c/o")[0] == 404
assert not any(latest for _, _, latest in short("c", "&prefix=o"))
assert call("PUT", f"/c/o?version-id={ids[1]}")[0] == 201
assert call("DELETE", "/c/o")[0] == 204
assert call("GET", f"/c/o?version-id={ids[1]}")[0] == 200
# Listings.
assert call("GET", "/c?versions", Accept="text/plain")[0] == 406
assert call("GET", "/c?versions&version_marker=null")[0] == 400
assert call("GET", "/c?versions&marker=o&version_marker=nonsense")[0] == 400
assert call("GET", "/c?versions&delimiter=0")[0] == 400
whole = short("c")
for limit in (1, 2, 3):
    got, marker = [], ""
    while page := short("c", f"&limit={limit}{marker}"):
        got += page
        marker = f"&marker={page[-1][0]}&version_marker={page[-1][1]}"
    assert got == whole, (limit, got, whole)
assert short("c", "&reverse=on") == whole[::-1]
assert short("c", "&marker=o") == [v for v in whole if v[0] > "o"]
# A container with versions does not go.
assert call("DELETE", "/c")[0] == 409
for name, i, _ in whole:
    assert call("DELETE", f"/c/{name}?version-id={i}")[0] in (204, 404)
for name, i, _ in short("c"):
    assert call("DELETE", f"/c/{name}?version-id={i}")[0] == 204
assert call("DELETE", "/c")[0] == 204

# The older modes. Stack:
kept = lambda name: [o["name"] for o in json.loads(call("GET", f"/{name}?format=json")[2])]
assert call("PUT", "/s", X_Versions_Location="missing")[0] == 201
assert call("HEAD", "/s")[1]["x-versions-location"] == "missing"
assert call("PUT", "/s/o", b"0")[0] == 201
assert call("PUT", "/s/o", b"1")[0] == 412
assert call("PUT", "/old")[0] == 201
assert call("POST", "/s", X_Versions_Location="old/x")[0] == 412
assert call("POST", "/s", X_Versions_Location="old", X_History_Location="old")[0] == 400
assert call("POST", "/s", X_Versions_Location="old")[0] == 204
assert call("POST", "/s", X_Versions_Enabled="true")[0] == 400
for n in range(1, 3):
    assert call("PUT", "/s/o", b"%d" % n, Content_Type="text/x", X_Object_Meta_N=str(n))[0] == 201
names = kept("old")
assert len(names) == 2 and all(n.startswith("001o/1") for n in names), names
assert call("GET", "/old/" + names[1])[2] == b"1" and call("HEAD", "/old/" + names[1])[1]["x-object-meta-n"] == "1"
assert call("COPY", "/s/o", Destination="s/o2")[0] == 201
assert len(kept("old")) == 2
assert call("DELETE", "/s/o")[0] == 204
s, h, b = call("GET", "/s/o")
assert (s, b, h["content-type"], h["x-object-meta-n"]) == (200, b"1", "text/x", "1") and kept("old") == names[:1]
assert call("DELETE", "/s/o")[0] == 204 and call("GET", "/s/o")[2] == b"0" and kept("old") == []
assert call("DELETE", "/s/o")[0] == 204 and call("GET", "/s/o")[0] == 404
assert call("DELETE", "/s/o")[0] == 404
# History:
assert call("POST", "/s", X_History_Location="old")[0] == 204
h = call("HEAD", "/s")[1]
assert h["x-history-location"] == "old" and "x-versions-location" not in h
assert call("PUT", "/s/h", b"0")[0] == 201 and call("PUT", "/s/h", b"1")[0] == 201
assert call("DELETE", "/s/h")[0] == 204 and call("GET", "/s/h")[0] == 404
items = json.loads(call("GET", "/old?format=json")[2])
assert [(i["name"][:5], i["bytes"]) for i in items] == [("001h/", 1), ("001h/", 1), ("001h/", 0)], items
assert items[2]["content_type"] == "application/x-deleted;swift_versions_deleted=1"
assert call("GET", "/old/" + items[1]["name"])[2] == b"1"
# From history to stack: the marker is the deletion that is undone.
assert call("POST", "/s", X_Versions_Location="old")[0] == 204
assert call("DELETE", "/s/h")[0] == 204 and call("GET", "/s/h")[2] == b"1" and len(kept("old")) == 1
assert call("POST", "/s", X_Remove_Versions_Location="x")[0] == 204
h = call("HEAD", "/s")[1]
assert "x-versions-location" not in h and "x-history-location" not in h
assert call("PUT", "/s/h", b"2")[0] == 201 and len(kept("old")) == 1
for path in ("/s/h", "/s/o2", "/old/" + kept("old")[0], "/s", "/old"):
    assert call("DELETE", path)[0] == 204, path
print("swift versions ok")
