"""Containers as web sites, archives and forms through Swift's door."""
import bz2, gzip, hashlib, hmac, http.client, io, json, os, tarfile, time, urllib.parse

root = urllib.parse.urlparse(os.environ["SWIFT_URL"])


def call(method, path, body=None, token="p:member", **headers):
    c = http.client.HTTPConnection(root.netloc, timeout=30)
    h = {k.replace("_", "-"): v for k, v in headers.items()}
    if token:
        h["X-Auth-Token"] = token
    c.request(method, root.path + path, body=body, headers=h)
    r = c.getresponse()
    data = r.read()
    return r.status, {k.lower(): v for k, v in r.getheaders()}, data


def status(*a, **k):
    return call(*a, **k)[0]


def get(path, **k):
    return call("GET", path, token=None, **k)


# --- a site
assert status("PUT", "/site", X_Container_Read=".r:*,.rlistings") == 201
for name, kind in [("index.html", "text/html"), ("404error.html", "text/html"), ("401error.html", "text/html"), ("sub/index.html", "text/html"),
                   ("list/a<b>.txt", "text/plain"), ("list/deeper/x", "text/plain")]:
    assert status("PUT", "/site/" + urllib.parse.quote(name), body=name.encode(), Content_Type=kind) == 201
assert status("PUT", "/site/marker", body=b"", Content_Type="application/directory") == 201
# without a word of a site, a container is a container
assert get("/site")[2].startswith(b"401error.html\n") and get("/site/marker")[0] == 200
assert status("POST", "/site", X_Container_Meta_Web_Index="index.html") == 204
s, h, b = get("/site")
assert s == 301 and h["location"] == f"http://{root.netloc}{root.path}/site/", (s, h)
s, h, b = get("/site/")
assert s == 200 and b == b"index.html" and h["content-type"] == "text/html"
assert call("HEAD", "/site/", token=None)[1]["content-length"] == "10"
assert get("/site/sub")[0] == 301 and get("/site/sub/")[2] == b"sub/index.html"
s, h, b = get("/site/list/")
assert s == 404 and b"Web Listing Disabled" in b and h["content-type"].startswith("text/html")
assert get("/site/list")[0] == 301 and get("/site/absent")[0] == 404 and get("/site/marker")[0] == 404
# whoever has a token sees the container, unless they ask for the site
assert call("GET", "/site")[2].startswith(b"401error.html\n") and call("GET", "/site/", X_Web_Mode="true")[2] == b"index.html"
# error pages, with the status of the error
assert status("POST", "/site", X_Container_Meta_Web_Error="error.html") == 204
s, h, b = get("/site/absent", Range="bytes=0-3", If_None_Match="*")
assert s == 404 and b == b"404error.html", (s, b)
# listings
assert status("POST", "/site", X_Container_Meta_Web_Listings="true", X_Container_Meta_Web_Listings_Css="style.css", X_Container_Meta_Web_Listings_Label="Here") == 204
s, h, b = get("/site/list/")
assert s == 200 and h["content-type"] == "text/html; charset=UTF-8"
for part in (b"Listing of Here/list/", b'href="./a%3Cb%3E%2Etxt">a&lt;b&gt;.txt<', b'href="./deeper/">deeper/<', b'href="../">../<', b'href="../style.css"', b'type-text type-plain'):
    assert part in b, (part, b)
assert get("/site/empty/")[0] == 404 and call("HEAD", "/site/list/", token=None)[2] == b""
assert status("POST", "/site", X_Remove_Container_Meta_Web_Index="x") == 204
assert b"Listing of Here/" in get("/site/")[2]
# a site is public by its ACL alone
assert status("POST", "/site", X_Remove_Container_Read="x") == 204
assert get("/site/")[0] == get("/site/index.html")[0] == 401
assert status("PUT", "/plain") == 201 and status("GET", "/plain", X_Web_Mode="true") == 404 and status("DELETE", "/plain") == 204


# --- archives
def archive(files, form=tarfile.PAX_FORMAT, **xattrs):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as t:
        d = tarfile.TarInfo("dir")
        d.type = tarfile.DIRTYPE
        t.addfile(d)
        link = tarfile.TarInfo("dir/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        t.addfile(link)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.pax_headers = {"SCHILY.xattr.user." + k.replace("__", "."): v for k, v in xattrs.items()}
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def extract(path, body, kind="tar", **k):
    s, h, b = call("PUT", f"{path}?extract-archive={kind}", body=body, Accept="application/json", **k)
    assert s == 200, (s, b)
    return json.loads(b)


big = os.urandom(3_000_000)
long = "x" * 200
files = {"one/a": b"A", "./one/ü/b": b"B" * 1000, "/two/big": big, f"two/{long}/c": b"C", "top": b"nowhere"}
r = extract("", archive(files, mime_type="a/b", meta__Colour="red"))
assert (r["Number Files Created"], r["Response Status"], r["Errors"]) == (4, "201 Created", []), r
assert call("GET", "/two/big")[2] == big and call("GET", f"/two/{long}/c")[2] == b"C" and call("GET", "/one/" + urllib.parse.quote("ü/b"))[2] == b"B" * 1000
h = call("HEAD", "/one/a")[1]
assert h["content-type"] == "a/b" and h["x-object-meta-colour"] == "red"
for kind, pack in (("tar.gz", gzip.compress), ("tar.bz2", bz2.compress)):
    for form in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        r = extract("/one/" + kind, pack(archive({"k": big, "d/e": b"E"}, form)), kind)
        assert r["Number Files Created"] == 2, r
    assert call("GET", f"/one/{kind}/k")[2] == big and call("GET", f"/one/{kind}/d/e")[2] == b"E"
r = extract("/one", archive({"../climb": b"1", "ok": b"2"}))
assert r["Number Files Created"] == 1 and r["Response Status"] == "400 Bad Request" and r["Errors"] == [["/v1/AUTH_p/one/../climb", "400 Bad Request"]], r
for body, kind in ((b"nonsense" * 100, "tar"), (b"nonsense", "tar.gz"), (archive(files)[:1000], "tar"), (gzip.compress(archive(files))[:1000], "tar.gz"), (b"", "tar")):
    r = extract("/one", body, kind)
    assert r["Response Status"] == "400 Bad Request" and r["Response Body"].startswith("Invalid Tar File"), r
assert status("PUT", "/one?extract-archive=zip", body=b"") == 400
s, h, b = call("PUT", "/one?extract-archive=tar", body=archive({"k": b"1"}))
assert h["content-type"].startswith("text/plain") and b.startswith(b"Number Files Created: 1\nResponse Body: \nResponse Status: 201 Created\nErrors:\n"), b
assert b"<number_files_created>1</number_files_created>" in call("PUT", "/one?extract-archive=tar", body=archive({"k": b"1"}), Accept="text/xml")[2]
assert status("PUT", "/one?extract-archive=tar", body=archive({"k": b"1"}), token=None) == 401
r = extract("", archive({"new/x": b"1", "one/y": b"1"}), token="q:member")
assert r["Number Files Created"] == 0 and {s for _, s in r["Errors"]} == {"403 Forbidden"}, r
assert status("HEAD", "/new") == 404

# --- forms
assert status("POST", "", X_Account_Meta_Temp_Url_Key="secret") == 204


def form(path, files, most="100000", count="2", expires=None, redirect="", sign=None, digest=hashlib.sha256, **more):
    expires = str(expires if expires is not None else int(time.time()) + 60)
    text = f"{root.path}{urllib.parse.unquote(path)}\n{redirect}\n{most}\n{count}\n{expires}"
    fields = {"redirect": redirect, "max_file_size": most, "max_file_count": count, "expires": expires,
              "signature": sign or hmac.new(b"secret", text.encode(), digest).hexdigest(), **more}
    out = b"".join(b'--BB\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k.encode(), v.encode()) for k, v in fields.items())
    for i, (name, data) in enumerate(files.items()):
        out += b'--BB\r\nContent-Disposition: form-data; name="file%d"; filename="%s"\r\nContent-Type: text/x-mine\r\n\r\n%s\r\n' % (i, name.encode(), data)
    out += b"--BB--\r\n"
    return call("POST", path, body=out, token=None, Content_Type="multipart/form-data; boundary=BB")


assert status("PUT", "/up") == 201
s, h, b = form("/up/pre_", {"a.bin": big[:90000], "ü": b"2"})
assert (s, b) == (201, b"201 Created"), (s, b)
assert call("GET", "/up/pre_a.bin")[2] == big[:90000] and call("HEAD", "/up/pre_" + urllib.parse.quote("ü"))[1]["content-type"] == "text/x-mine"
s, h, b = form("/up", {"plain": b"3"}, redirect="http://back/?x=1", digest=hashlib.sha1)
assert s == 303 and h["location"] == "http://back/?x=1&status=201&message=", (s, h)
s, h, b = form("/up", {"gone": b"4"}, x_delete_after="100", digest=hashlib.sha512)
assert s == 201 and "x-delete-at" in call("HEAD", "/up/gone")[1]
s, h, b = form("/up", {"1": b"", "2": b"", "3": b""})
assert s == 400 and b == b"400 Bad Request\r\nFormPost: Max File Count Exceeded", b
assert form("/up", {"large": b"x" * 11}, most="10")[2] == b"FormPost: Max_File_Size Exceeded" and status("HEAD", "/up/large") == 404
assert form("/up", {"late": b""}, expires=1)[0] == 401 and form("/up", {"no": b""}, sign="00" * 32)[0] == 401
assert form("/up", {})[2] == b"400 Bad Request\r\nFormPost: No Files To Process" and form("/absent", {"x": b""})[0] == 404
assert call("POST", "/up", body=b"nonsense", token=None, Content_Type="multipart/form-data; boundary=BB")[0] == 400
assert status("HEAD", "/up/late") == status("HEAD", "/up/no") == 404

for c in json.loads(call("GET", "?format=json")[2]):
    for n in json.loads(call("GET", f"/{c['name']}?format=json")[2]):
        assert status("DELETE", f"/{c['name']}/" + urllib.parse.quote(n["name"])) == 204
    assert status("DELETE", "/" + c["name"]) == 204
print("swift web ok")
