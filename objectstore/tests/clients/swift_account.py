"""Whole accounts through Swift: their ACLs, quoted ETags, service tokens, names in host names, storage policies."""
import http.client, json, os, urllib.error, urllib.request

ROOT = os.environ["SWIFT_ROOT"]
OWNER, STRANGER = "p:member", "q:member"


def ask(method, path, body=None, token=OWNER, host=None, **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()} | ({"x-auth-token": token} if token else {}) | ({"host": host} if host else {})
    conn = http.client.HTTPConnection(ROOT.split("//")[1])
    conn.request(method, path, body, headers)
    r = conn.getresponse()
    return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()


def status(*a, **kw):
    return ask(*a, **kw)[0]


A = "/v1/AUTH_p"
assert status("PUT", A + "/c") == 201 and status("PUT", A + "/c/o", b"x") == 201

# Account ACLs.
acl = lambda **kw: json.dumps({k.replace("_", "-"): v for k, v in kw.items()})
for bad in ["nonsense", "[]", acl(owner=["q-user"]), acl(admin="q-user")]:
    assert status("POST", A, X_Account_Access_Control=bad) == 400, bad
assert status("GET", A, token=STRANGER) == 403
assert status("POST", A, X_Account_Access_Control=acl(read_only=["q:q-user"])) == 204
assert json.loads(ask("HEAD", A)[1]["x-account-access-control"]) == {"read-only": ["q:q-user"]}
s, h, _ = ask("GET", A, token=STRANGER)
assert s == 200 and "x-account-access-control" not in h
assert [status("GET", A + p, token=STRANGER) for p in ("/c", "/c/o")] == [200, 200]
assert [status(m, A + p, b"", token=STRANGER) for m, p in (("PUT", "/c/n"), ("PUT", "/n"), ("POST", ""), ("DELETE", "/c/o"))] == [403] * 4
assert status("GET", A, token="r:member") == 403
assert status("POST", A, X_Account_Access_Control=acl(read_write=["q-user"])) == 204
assert [status(m, A + p, b"", token=STRANGER) for m, p in (("PUT", "/n"), ("PUT", "/n/o"), ("POST", "/n/o"), ("GET", "/n"))] == [201, 201, 202, 200]
# Not the owner's: who may use a container, and what is said of the account.
assert status("POST", A + "/n", token=STRANGER, X_Container_Read=".r:*", X_Container_Meta_Colour="red") == 204
h = ask("HEAD", A + "/n")[1]
assert "x-container-read" not in h and h["x-container-meta-colour"] == "red"
assert status("POST", A, token=STRANGER, X_Account_Meta_A="b") == 403
assert status("POST", A, X_Account_Access_Control=acl(admin=["q:*"])) == 204
assert "x-account-access-control" in ask("HEAD", A, token=STRANGER)[1]
assert status("POST", A + "/n", token=STRANGER, X_Container_Read=".r:*") == 204
assert ask("HEAD", A + "/n")[1]["x-container-read"] == ".r:*"
assert status("POST", A, token=STRANGER, X_Account_Access_Control="") == 204
assert "x-account-access-control" not in ask("HEAD", A)[1]
assert status("GET", A, token=STRANGER) == 403

# Quoted ETags.
plain = ask("HEAD", A + "/c/o")[1]["etag"]
assert not plain.startswith('"')
assert status("POST", A, X_Account_Rfc_Compliant_Etags="true") == 204
assert ask("HEAD", A)[1]["x-account-rfc-compliant-etags"] == "True"
assert ask("HEAD", A + "/c/o")[1]["etag"] == f'"{plain}"'
assert ask("PUT", A + "/c/o", b"x")[1]["etag"] == f'"{plain}"'
assert ask("GET", A + "/c/o", If_None_Match=f'"{plain}"')[0] == 304
assert status("POST", A + "/c", X_Container_Rfc_Compliant_Etags="false") == 204
assert ask("GET", A + "/c/o")[1]["etag"] == plain
assert status("POST", A, X_Account_Rfc_Compliant_Etags="") == 204
assert "x-account-rfc-compliant-etags" not in ask("HEAD", A)[1]

# A service's token beside the user's must be one.
assert status("GET", A, X_Service_Token="s:service") == 200
assert status("GET", A, X_Service_Token="nonsense") == 401

# Accounts and containers in host names.
assert ask("GET", "/c/o", host="AUTH_p.swift.example")[2] == b"x"
assert ask("GET", "/o", host="c.auth-p.swift.example:80")[2] == b"x"
assert status("GET", "/o", host="a.b.auth-p.swift.example") == 400
assert status("GET", "/c/o", host="AUTH_p.swift.example", token=None) == 401
assert status("GET", A + "/c/o", host="swift.example") == 200

# Storage policies.
info = json.loads(ask("GET", "/info")[2])
assert info["swift"]["policies"] == [{"name": "gold", "aliases": "gold, best", "default": True}, {"name": "silver", "aliases": "silver"}]
assert "domain_remap" in info and info["etag_quoter"] == {"enable_by_default": False} and "ratelimit" not in info
assert status("PUT", A + "/best", X_Storage_Policy="BEST") == 201
assert ask("HEAD", A + "/best")[1]["x-storage-policy"] == "gold"
assert status("PUT", A + "/best", X_Storage_Policy="gold") == 202
assert status("PUT", A + "/best", X_Storage_Policy="silver") == 409
assert status("PUT", A + "/best", X_Storage_Policy="") == 202
assert status("PUT", A + "/silver", X_Storage_Policy="silver") == 201
assert status("PUT", A + "/silver/o", b"12345") == 201
h = ask("HEAD", A)[1]
assert h["x-account-storage-policy-silver-bytes-used"] == "5" and h["x-account-storage-policy-silver-container-count"] == "1"
print("account ok")
