"""Who may reach what through Swift's door: CORS, names in ACLs, signed URLs that are bound to a network."""
import hashlib, hmac, http.client, json, os, time, urllib.parse

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


# CORS
def preflight(path, origin, method="GET", **h):
    return call("OPTIONS", path, token=None, Origin=origin, Access_Control_Request_Method=method, **h)


assert status("PUT", "/web") == 201 and status("PUT", "/web/o", body=b"1", X_Object_Meta_Colour="red") == 201
s, h, b = call("OPTIONS", "/web/o", token=None)
assert s == 200 and set(h["allow"].split(", ")) == {"HEAD", "GET", "PUT", "POST", "OPTIONS", "DELETE", "COPY"} and "access-control-allow-origin" not in h
assert preflight("/web/o", "http://a")[0] == 401
assert preflight("/absent/o", "http://a")[0] == 401
assert status("POST", "/web", X_Container_Meta_Access_Control_Allow_Origin="http://a http://b", X_Container_Meta_Access_Control_Max_Age="5",
              X_Container_Meta_Access_Control_Expose_Headers="X-Mine") == 204
s, h, b = preflight("/web/o", "http://a", "PUT", Access_Control_Request_Headers="x-auth-token, x-other")
assert s == 200 and h["access-control-allow-origin"] == "http://a" and h["access-control-max-age"] == "5"
assert h["access-control-allow-headers"] == "x-auth-token, x-other" and h["vary"] == "Origin, Access-Control-Request-Headers"
assert set(h["access-control-allow-methods"].split(", ")) >= {"GET", "PUT", "COPY"}
assert preflight("/web/o", "http://c")[0] == preflight("/web/o", "http://a", "PATCH")[0] == 401
assert "COPY" not in preflight("/web", "http://a")[1]["access-control-allow-methods"]
s, h, b = call("GET", "/web/o", Origin="http://a")
assert s == 200 and h["access-control-allow-origin"] == "http://a"
exposed = set(h["access-control-expose-headers"].split(", "))
assert exposed >= {"cache-control", "content-language", "content-type", "expires", "last-modified", "pragma", "etag", "x-timestamp", "x-trans-id", "x-openstack-request-id", "x-object-meta-colour", "x-mine"}, exposed
assert "access-control-allow-origin" not in call("GET", "/web/o", Origin="http://c")[1]
s, h, b = call("GET", "/web/o", Origin="http://a", token=None)
assert s == 401 and h["access-control-allow-origin"] == "http://a"
assert status("POST", "/web", X_Container_Meta_Access_Control_Allow_Origin="*") == 204
s, h, b = call("GET", "/web/o", Origin="http://c")
assert h["access-control-allow-origin"] == "*" and "vary" not in h
assert preflight("", "http://a")[0] == 200

# signed URLs that are bound to a network
assert status("POST", "", X_Account_Meta_Temp_Url_Key="secret") == 204


def signed(net):
    path, at = root.path + "/web/o", int(time.time()) + 60
    sig = hmac.new(b"secret", f"ip={net}\nGET\n{at}\n{path}".encode(), hashlib.sha256).hexdigest()
    return f"/web/o?temp_url_sig={sig}&temp_url_expires={at}&temp_url_ip_range={urllib.parse.quote(net)}"


assert status("GET", signed("127.0.0.0/8"), token=None) == 200 and status("GET", signed("127.0.0.1"), token=None) == 200
assert status("GET", signed("10.0.0.0/8"), token=None) == status("GET", signed("127.0.0.1/8"), token=None) == 401
assert status("GET", signed("127.0.0.0/8").replace("127.0.0.0", "127.0.0.1"), token=None) == 401

# a signed URL reaches no further than its account, or its container
assert status("PUT", "/other") == 201 and status("PUT", "/other/secret", body=b"2") == 201
assert status("POST", "/web", X_Container_Meta_Temp_Url_Key="mine") == 204


def put_url(key, path="/web/stolen"):
    at = int(time.time()) + 60
    sig = hmac.new(key, f"PUT\n{at}\n{root.path}{path}".encode(), hashlib.sha256).hexdigest()
    return f"{path}?temp_url_sig={sig}&temp_url_expires={at}"


r = call("PUT", put_url(b"mine"), token=None, body=b"", X_Copy_From="other/secret")
assert r[0] == 401, r
assert status("PUT", put_url(b"secret"), token=None, body=b"", X_Copy_From="other/secret") == 201
c = http.client.HTTPConnection(root.netloc)
c.request("PUT", "/v1/AUTH_q/vault", headers={"X-Auth-Token": "q:member"})
assert c.getresponse().status == 201
c = http.client.HTTPConnection(root.netloc)
c.request("PUT", "/v1/AUTH_q/vault/o", body=b"3", headers={"X-Auth-Token": "q:member"})
assert c.getresponse().status == 201
s, h, b = call("PUT", put_url(b"secret"), token=None, body=b"", X_Copy_From="vault/o", X_Copy_From_Account="AUTH_q")
assert s == 401, (s, b)
assert status("PUT", put_url(b"secret"), token=None, body=b"", X_Symlink_Target="other/secret") == 400
assert status("PUT", put_url(b"secret") + "&extract-archive=tar", token=None, body=b"") == 401

# symlinks
assert status("PUT", "/web/link", body=b"", X_Symlink_Target="other/secret", X_Object_Meta_L="1") == 201
s, h, b = call("GET", "/web/link")
assert s == 200 and b == b"2" and h["content-location"] == root.path + "/other/secret" and "x-object-meta-l" not in h
assert call("HEAD", "/web/link")[1]["content-length"] == "1"
s, h, b = call("GET", "/web/link?symlink=get")
assert b == b"" and h["x-symlink-target"] == "other/secret" and h["content-type"] == "application/symlink" and h["x-object-meta-l"] == "1"
s, h, b = call("POST", "/web/link", X_Object_Meta_M="2")
assert s == 307 and h["location"] == root.path + "/other/secret", (s, h)
assert call("HEAD", "/web/link?symlink=get")[1]["x-object-meta-m"] == "2" and call("GET", "/web/link")[2] == b"2"
etag = hashlib.md5(b"2").hexdigest()
assert status("PUT", "/web/static", body=b"", X_Symlink_Target="other/secret", X_Symlink_Target_Etag="0" * 32) == 409
assert status("PUT", "/web/static", body=b"", X_Symlink_Target="other/absent", X_Symlink_Target_Etag=etag) == 409
assert status("PUT", "/web/static", body=b"", X_Symlink_Target="other/secret", X_Symlink_Target_Etag=etag) == 201
h = call("HEAD", "/web/static?symlink=get")[1]
assert h["x-symlink-target-etag"] == etag and h["x-symlink-target-bytes"] == "1"
assert call("GET", "/web/static")[2] == b"2" and status("PUT", "/other/secret", body=b"new") == 201
rows = {r["name"]: r for r in json.loads(call("GET", "/web?format=json")[2])}
assert rows["link"]["symlink_path"] == root.path + "/other/secret" and "symlink_etag" not in rows["link"] and "symlink_path" not in rows["o"]
assert (rows["static"]["symlink_etag"], rows["static"]["symlink_bytes"]) == (etag, 1)
assert status("GET", "/web/static") == 409 and call("GET", "/web/link")[2] == b"new"
for bad, want in (({"X_Symlink_Target": "nope"}, 412), ({"X_Symlink_Target": "web/self"}, 400), ({"X_Symlink_Target_Account": "AUTH_q"}, 400)):
    assert status("PUT", "/web/self", body=b"", **bad) == want, bad
assert status("PUT", "/web/self", body=b"x", X_Symlink_Target="other/secret") == 400
assert status("PUT", "/web/dangling", body=b"", X_Symlink_Target="other/absent") == 201 and status("GET", "/web/dangling") == 404
for i in range(3):
    assert status("PUT", f"/web/{i}", body=b"", X_Symlink_Target="other/secret" if i == 0 else f"web/{i - 1}") == 201
assert status("GET", "/web/1") == 200 and status("GET", "/web/2") == 409
# by the rights that the caller has on the target
assert status("POST", "/web", X_Container_Read=".r:*") == 204 and status("GET", "/web/link", token=None) == 401
assert status("PUT", "/web/far", body=b"", X_Symlink_Target="vault/o", X_Symlink_Target_Account="AUTH_q") == 201
assert status("GET", "/web/far") == 403 and call("HEAD", "/web/far?symlink=get")[1]["x-symlink-target-account"] == "AUTH_q"
assert status("COPY", "/web/link", Destination="web/copied") == 201 and call("HEAD", "/web/copied?symlink=get")[1]["content-length"] == "3"
assert status("COPY", "/web/link?symlink=get", Destination="web/copied") == 201 and call("HEAD", "/web/copied?symlink=get")[1]["x-symlink-target"] == "other/secret"
assert status("DELETE", "/web/link") == 204 and status("GET", "/other/secret") == 200
assert status("POST", "/web", X_Container_Sync_To="//realm/cluster/AUTH_x/c") == 400

for path in ("/other/secret", "/other", "/web/stolen", "/web/static", "/web/dangling", "/web/0", "/web/1", "/web/2", "/web/far", "/web/copied", "/web/o", "/web"):
    assert status("DELETE", path) == 204
print("swift access ok")
