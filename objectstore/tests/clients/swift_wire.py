"""The Swift door, header by header: what clients and middleware depend on."""
import hashlib, http.client, json, os, time, urllib.parse
from xml.etree import ElementTree

root = urllib.parse.urlparse(os.environ["SWIFT_URL"])


def call(method, path, body=None, token="p:member", **headers):
    c = http.client.HTTPConnection(root.netloc, timeout=30)
    h = {k.replace("_", "-"): v for k, v in headers.items()}
    if token:
        h["X-Auth-Token"] = token
    url = path if path.startswith("/v1") or path in ("/info", "/healthcheck") else root.path + path
    c.request(method, url, body=body, headers=h)
    r = c.getresponse()
    data = r.read()
    return r.status, {k.lower(): v for k, v in r.getheaders()}, data


def status(*a, **k):
    return call(*a, **k)[0]


q = urllib.parse.quote
# nobody, somebody else, a reader
assert status("GET", "", token=None) == 401
assert status("GET", "", token="nonsense") == 401
assert status("GET", "", token="q:member") == 403
assert status("PUT", "/c", token="p:reader") == 403
s, h, b = call("GET", "", token=None)
assert "www-authenticate" in h and b == b"<html><h1>Unauthorized</h1><p>This server could not verify that you are authorized to access the document you requested.</p></html>"
assert status("GET", "/v1/AUTH_p/c/%ff", token="p:member") == 412
assert status("GET", "/healthcheck") == 200
info = json.loads(call("GET", "/info")[2])
assert info["swift"]["max_file_size"] == 5 << 30 and "tempurl" in info

# account
s, h, b = call("GET", "")
assert s == 204 and h["x-account-container-count"] == "0" and h["x-trans-id"].startswith("tx")
assert status("POST", "", X_Account_Meta_A="1") == 204
assert call("HEAD", "")[1]["x-account-meta-a"] == "1"
assert status("POST", "", X_Remove_Account_Meta_A="x") == 204
assert "x-account-meta-a" not in call("HEAD", "")[1]
assert status("POST", "", X_Account_Meta_Quota_Bytes="10") == 403

# container
assert status("HEAD", "/c") == 404
assert status("PUT", "/c/o", body=b"x") == 404
assert status("PUT", "/c", X_Container_Meta_Under_Score="1") == 201
assert status("PUT", "/c") == 202
s, h, b = call("HEAD", "/c")
assert s == 204 and h["x-container-meta-under-score"] == "1" and h["x-storage-policy"] == "gold"
assert status("PUT", "/c", X_Storage_Policy="silver") == 409
assert status("PUT", "/c2", X_Storage_Policy="lead") == 400
assert status("PUT", "/c2", X_Storage_Policy="silver") == 201
assert status("PUT", "/" + "x" * 257) == 400
assert status("POST", "/c", **{"X-Container-Meta-" + "x" * 129: "1"}) == 400
assert status("POST", "/c", X_Container_Meta_A="x" * 257) == 400
assert status("POST", "/c", **{f"X-Container-Meta-K{i}": "1" for i in range(91)}) == 400
assert status("POST", "/c", X_Container_Read=".r:*,.rlistings") == 204
assert status("POST", "/c", X_Container_Write=".r:*") == 400
assert status("GET", "/c", token=None) == 204
assert "x-container-read" not in call("HEAD", "/c", token=None)[1]
assert status("POST", "/c", X_Remove_Container_Read="x") == 204
assert status("GET", "/c", token=None) == 401
assert status("POST", "/absent") == 404
names = [r["name"] for r in json.loads(call("GET", "?format=json")[2])]
assert names == ["c", "c2"]
assert call("GET", "?limit=1&marker=c")[2] == b"c2\n"
assert call("GET", "?reverse=true")[2] == b"c2\nc\n"
assert status("GET", "?limit=10001") == 412
assert ElementTree.fromstring(call("GET", "?format=xml")[2]).get("name") == "AUTH_p"

# objects
data = os.urandom(70000)
md5 = hashlib.md5(data).hexdigest()
name = q("dir/ü &<>\"' %2F?#")
s, h, b = call("PUT", "/c/" + name, body=data, Content_Type="a/b", X_Object_Meta_X="ü".encode().decode("latin1"), Content_Encoding="gzip", ETag=md5)
assert s == 201 and h["etag"] == md5 and h["content-length"] == "0" and "last-modified" in h, (s, h)
s, h, b = call("GET", "/c/" + name)
assert s == 200 and b == data and h["content-type"] == "a/b" and h["content-encoding"] == "gzip" and h["accept-ranges"] == "bytes"
assert h["x-object-meta-x"].encode("latin1").decode() == "ü" and "." in h["x-timestamp"]
s, h, b = call("HEAD", "/c/" + name)
assert s == 200 and b == b"" and h["content-length"] == "70000"
row = json.loads(call("GET", "/c?format=json")[2])[0]
assert row["name"] == urllib.parse.unquote(name) and row["hash"] == md5 and row["bytes"] == 70000 and row["content_type"] == "a/b"
assert status("PUT", "/c/bad", body=data, ETag="0" * 32) == 422
assert status("GET", "/c/bad") == 404
assert status("PUT", "/c/" + "x" * 1025, body=b"") == 400
assert status("PUT", "/c/" + "x" * 1024, body=b"") == 201
assert status("DELETE", "/c/" + "x" * 1024) == 204
c = http.client.HTTPConnection(root.netloc)
c.putrequest("PUT", root.path + "/c/nolength"); c.putheader("X-Auth-Token", "p:member"); c.endheaders()
assert c.getresponse().status == 411
s, h, b = call("PUT", "/c/chunked", body=iter([b"one ", b"two ", b"three"]))
assert s == 201 and call("GET", "/c/chunked")[2] == b"one two three"
assert call("HEAD", "/c/chunked")[1]["content-type"] == "application/octet-stream"
assert status("PUT", "/c/page.html", body=b"<p>") == 201
assert call("HEAD", "/c/page.html")[1]["content-type"] == "text/html"
assert status("PUT", "/c/big", body=b"", Content_Length=str((5 << 30) + 1)) == 413

# ranges and conditions
for spec, want in [("bytes=0-9", data[:10]), ("bytes=-10", data[-10:]), ("bytes=69990-", data[69990:])]:
    s, h, b = call("GET", "/c/" + name, Range=spec)
    assert s == 206 and b == want and h["content-range"].endswith("/70000"), spec
s, h, b = call("GET", "/c/" + name, Range="bytes=0-0,5-9")
assert s == 206 and h["content-type"].startswith("multipart/byteranges") and b.count(b"Content-Range") == 2 and len(b) == int(h["content-length"])
assert status("GET", "/c/" + name, Range="bytes=70000-") == 416
assert status("GET", "/c/" + name, Range="nonsense") == 200
assert status("GET", "/c/" + name, If_None_Match=md5) == 304
assert status("GET", "/c/" + name, If_Match="x") == 412
assert status("PUT", "/c/" + name, body=b"", If_None_Match="*") == 412
assert status("PUT", "/c/" + name, body=b"", If_None_Match="abc") == 400
lm = call("HEAD", "/c/" + name)[1]["last-modified"]
assert status("GET", "/c/" + name, If_Modified_Since=lm) == 304
assert status("GET", "/c/" + name, If_Unmodified_Since=lm) == 200

# POST replaces the metadata
assert status("POST", "/c/" + name, X_Object_Meta_Y="2") == 202
h = call("HEAD", "/c/" + name)[1]
assert h["x-object-meta-y"] == "2" and "x-object-meta-x" not in h and "content-encoding" not in h and h["content-type"] == "a/b" and h["etag"] == md5
assert call("GET", "/c/" + name)[2] == data
assert status("POST", "/c/absent") == 404

# expiry
assert status("PUT", "/c/exp", body=b"", X_Delete_At="1") == 400
assert status("PUT", "/c/exp", body=b"", X_Delete_At="soon") == 400
assert status("PUT", "/c/exp", body=b"x", X_Delete_After="1") == 201
assert "x-delete-at" in call("HEAD", "/c/exp")[1]
time.sleep(2)
assert status("GET", "/c/exp") == 404

# copies
s, h, b = call("COPY", "/c/" + name, Destination="c2/copy", X_Object_Meta_Z="3")
assert s == 201 and h["x-copied-from"].startswith("c/dir/") and h["x-object-meta-y"] == "2" and h["x-object-meta-z"] == "3"
assert call("GET", "/c2/copy")[2] == data
assert status("PUT", "/c2/copy2", body=b"", X_Copy_From="/c/" + name, X_Fresh_Metadata="true") == 201
assert "x-object-meta-y" not in call("HEAD", "/c2/copy2")[1]
assert status("COPY", "/c/" + name, Destination="nowhere") == 412
assert status("COPY", "/c/absent", Destination="c2/x") == 404

# listings
for n in ("l/a", "l/b/1", "l/b/2", "l/c"):
    assert status("PUT", "/c2/" + n, body=n.encode()) == 201
assert call("GET", "/c2?prefix=l/&delimiter=/")[2] == b"l/a\nl/b/\nl/c\n"
assert [list(r)[0] for r in json.loads(call("GET", "/c2?prefix=l/b&delimiter=/&format=json")[2])] == ["subdir"]
assert call("GET", "/c2?path=l")[2] == b"l/a\nl/c\n"
assert call("GET", "/c2?marker=l/b/1&end_marker=l/c")[2] == b"l/b/2\n"
assert call("GET", "/c2?prefix=l/&reverse=on&limit=2")[2] == b"l/c\nl/b/2\n"
x = ElementTree.fromstring(call("GET", "/c2?format=xml&prefix=l/&delimiter=/")[2])
assert [e.tag for e in x] == ["object", "subdir", "object"]
h = call("HEAD", "/c2")[1]
assert h["x-container-object-count"] == "6" and int(h["x-container-bytes-used"]) == 140000 + 3 + 5 + 5 + 3

# large objects
for i in range(3):
    assert status("PUT", f"/c/seg/{i}", body=bytes([65 + i]) * 1000) == 201
etags = [hashlib.md5(bytes([65 + i]) * 1000).hexdigest() for i in range(3)]
manifest = [{"path": f"/c/seg/{i}", "etag": etags[i], "size_bytes": 1000} for i in range(3)]
manifest[1] = {"path": "/c/seg/1", "range": "10-19"}
s, h, b = call("PUT", "/c/slo?multipart-manifest=put", body=json.dumps(manifest))
want = hashlib.md5((etags[0] + etags[1] + ":10-19;" + etags[2]).encode()).hexdigest()
assert s == 201 and h["etag"] == f'"{want}"', (s, h, b)
s, h, b = call("GET", "/c/slo")
assert s == 200 and b == b"A" * 1000 + b"B" * 10 + b"C" * 1000 and h["x-static-large-object"] == "True" and h["etag"] == f'"{want}"'
assert call("GET", "/c/slo", Range="bytes=995-1014")[2] == b"A" * 5 + b"B" * 10 + b"C" * 5
got = json.loads(call("GET", "/c/slo?multipart-manifest=get")[2])
assert got[0]["name"] == "/c/seg/0" and got[1]["range"] == "10-19"
raw = json.loads(call("GET", "/c/slo?multipart-manifest=get&format=raw")[2])
assert raw[0] == {"path": "/c/seg/0", "etag": etags[0], "size_bytes": 1000}
nested = [{"path": "/c/slo"}, {"data": "aGVsbG8="}]
assert status("PUT", "/c/slo2?multipart-manifest=put", body=json.dumps(nested)) == 201
assert call("GET", "/c/slo2")[2] == b"A" * 1000 + b"B" * 10 + b"C" * 1000 + b"hello"
row = [r for r in json.loads(call("GET", "/c?format=json&prefix=slo")[2]) if r["name"] == "slo"][0]
assert row["bytes"] == 2010 and row["slo_etag"] == f'"{want}"'
for bad in ["", "{}", "[1]", '[{"path": "/c/absent"}]', '[{"path": "/c/seg/0", "etag": "x"}]', '[{"path": "/c/seg/0", "size_bytes": 1}]', '[{"path": "nope"}]', '[{"path":"/c/seg/0","what":1}]']:
    s, h, b = call("PUT", "/c/slo3?multipart-manifest=put", body=bad)
    assert s == 400, (bad, s, b)
assert status("PUT", "/c/dlo", body=b"", X_Object_Manifest="c/seg/") == 201
s, h, b = call("GET", "/c/dlo")
assert b == b"A" * 1000 + b"B" * 1000 + b"C" * 1000 and h["x-object-manifest"] == "c/seg/" and h["etag"] == '"%s"' % hashlib.md5("".join(etags).encode()).hexdigest()
assert call("GET", "/c/dlo", Range="bytes=-1500")[2] == b"B" * 500 + b"C" * 1000
assert call("GET", "/c/dlo?multipart-manifest=get")[2] == b""
assert status("PUT", "/c/dlo2", body=b"", X_Object_Manifest="nope") == 400
s, h, b = call("DELETE", "/c/slo2?multipart-manifest=delete", Accept="application/json")
assert s == 200 and json.loads(b)["Number Deleted"] == 5, b
assert status("GET", "/c/slo") == 404 and status("GET", "/c/seg/0") == 404
assert status("GET", "/c/dlo") == 200

# bulk delete
lines = "\n".join(["/c2/" + n for n in ("l/a", "l/b/1", "l/b/2", "absent")])
s, h, b = call("POST", "?bulk-delete", body=lines, Accept="application/json", Content_Type="text/plain")
r = json.loads(b)
assert s == 200 and (r["Number Deleted"], r["Number Not Found"], r["Errors"]) == (3, 1, []), b

# quotas
assert status("POST", "/c2", X_Container_Meta_Quota_Count="4") == 204
assert status("PUT", "/c2/more", body=b"") == 201
assert status("PUT", "/c2/too-many", body=b"") == 413
assert status("POST", "/c2", X_Container_Meta_Quota_Bytes="x") == 400
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Meta_Quota_Bytes="1") == 204
assert status("PUT", "/c/quota", body=b"12") == 413
assert call("HEAD", "")[1]["x-account-meta-quota-bytes"] == "1"
# nor does it hold a reseller
assert status("PUT", "/c/quota", body=b"12", token="admin:ResellerAdmin") == 201
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Meta_Quota_Bytes="") == 204
# of one storage policy
assert status("POST", "", X_Account_Quota_Bytes_Policy_Gold="1") == 403
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Quota_Bytes_Policy_Gold="x") == 400
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Quota_Bytes_Policy_Gold="1") == 204
assert call("HEAD", "")[1]["x-account-quota-bytes-policy-gold"] == "1"
s, _, b = call("PUT", "/c/quota", body=b"12")
assert (s, b) == (413, b"Upload exceeds policy quota."), (s, b)
assert status("POST", "", token="admin:ResellerAdmin", X_Remove_Account_Quota_Bytes_Policy_Gold="x") == 204
# another policy's does not hold it
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Quota_Count_Policy_Silver="0") == 204
assert status("PUT", "/c/quota", body=b"12") == 201
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Quota_Count_Policy_Silver="") == 204
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Quota_Count_Policy_Gold="0") == 204
assert status("PUT", "/c/quota", body=b"12") == 413
assert status("POST", "", token="admin:ResellerAdmin", X_Account_Quota_Count_Policy_Gold="") == 204
assert status("PUT", "/c/quota", body=b"12") == 201
assert not [h for h in call("HEAD", "")[1] if "quota" in h]

# deleting
assert status("DELETE", "/c") == 409
for c in ("c", "c2"):
    for n in json.loads(call("GET", f"/{c}?format=json")[2]):
        assert status("DELETE", f"/{c}/" + q(n["name"])) == 204
    assert status("DELETE", f"/{c}") == 204
    assert status("DELETE", f"/{c}") == 404
assert status("PATCH", "/c") == 405
print("swift wire ok")
