"""The S3 door with requests that no client library would send: each refused, with the code that S3 gives."""
import base64, datetime, email.utils, hashlib, hmac, http.client, os, re, urllib.parse, zlib

host = os.environ["S3_HOST"]
KEY, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
EMPTY = hashlib.sha256(b"").hexdigest()


def sign(key, *texts):
    for t in texts:
        key = hmac.new(key, t.encode(), hashlib.sha256).digest()
    return key


def call(method, path, query="", body=b"", headers=None, payload=None, when=None, secret=SECRET, anonymous=False, length=None):
    headers = {k.lower(): v for k, v in (headers or {}).items()}
    now = when or datetime.datetime.now(datetime.timezone.utc)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    if not anonymous:
        payload = payload or hashlib.sha256(body).hexdigest()
        headers |= {"host": host, "x-amz-date": stamp, "x-amz-content-sha256": payload}
        names = sorted(headers)
        pairs = sorted(p if "=" in p else p + "=" for p in query.split("&") if p)
        canonical = "\n".join([method, path, "&".join(pairs)] + [f"{n}:{headers[n]}" for n in names] + ["", ";".join(names), payload])
        scope = f"{stamp[:8]}/RegionOne/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = sign(("AWS4" + secret).encode(), stamp[:8], "RegionOne", "s3", "aws4_request")
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={';'.join(names)}, Signature={sign(key, text).hex()}"
    c = http.client.HTTPConnection(host, timeout=30)
    c.putrequest(method, path + ("?" + query if query else ""), skip_host="host" in headers)
    for k, v in headers.items():
        c.putheader(k, v)
    c.putheader("content-length", str(len(body) if length is None else length))
    c.endheaders(body)
    if length is not None and length > len(body):
        c.sock.shutdown(1)
    try:
        r = c.getresponse()
        data = r.read()
    except (http.client.HTTPException, OSError):
        return 0, {}, b"", None
    code = re.search(rb"<Code>(.*?)</Code>", data)
    return r.status, {k.lower(): v for k, v in r.getheaders()}, data, code and code.group(1).decode()


def code(*a, **k):
    return call(*a, **k)[3]


assert call("PUT", "/wire")[0] == 200
assert call("PUT", "/wire/k", body=b"hello")[0] == 200
assert call("GET", "/wire/k")[2] == b"hello"
s, h, b, c = call("GET", "/wire/k", anonymous=True)
assert (s, c) == (403, "AccessDenied") and "x-amz-request-id" in h and b"<RequestId>" in b
assert code("GET", "/wire/k", secret="no") == "SignatureDoesNotMatch"
past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=20)
assert code("GET", "/wire/k", when=past) == "RequestTimeTooSkewed"
assert code("PUT", "/wire/k", body=b"other", payload=hashlib.sha256(b"hello").hexdigest()) == "XAmzContentSHA256Mismatch"
assert code("PUT", "/wire/k", body=b"x", payload="nonsense") == "InvalidArgument"
assert call("GET", "/wire/k")[2] == b"hello"
assert code("PUT", "/wire/k", headers={"content-md5": "zzz"}) == "InvalidDigest"
assert code("PUT", "/wire/k", headers={"x-amz-checksum-crc32": "zz"}) == "InvalidRequest"
# What is wrong about a sum is told; nothing is kept of such a body.
other = hashlib.sha256(b"else").hexdigest().upper()
s, h, b, c = call("PUT", "/wire/k", body=b"other", payload=other)
assert f"<ClientComputedContentSHA256>{other}<".encode() in b and f"<S3ComputedContentSHA256>{hashlib.sha256(b'other').hexdigest()}<".encode() in b, b
s, h, b, c = call("PUT", "/wire/k", body=b"other", headers={"content-md5": base64.b64encode(bytes(16)).decode()})
assert c == "BadDigest" and b"<ExpectedDigest>" + b"0" * 32 in b, b
s, h, b, c = call("GET", "/wire/k", payload="nonsense")
assert c == "InvalidArgument" and b"<ArgumentValue>nonsense<" in b, b
crc = base64.b64encode(bytes(4)).decode()
for headers, text in [({"x-amz-checksum-crc99": crc}, b"algorithm type"), ({"x-amz-checksum-crc32": crc, "x-amz-checksum-crc32c": crc}, b"Multiple checksum Types"),
                      ({"x-amz-checksum-crc32": crc, "x-amz-trailer": "x-amz-checksum-crc32"}, b"Expecting a single"), ({"x-amz-trailer": "x-amz-checksum-crc32"}, b"MalformedTrailerError"),
                      ({"x-amz-trailer": "content-md5"}, b"not supported"), ({"x-amz-sdk-checksum-algorithm": "CRC32"}, b"no corresponding"),
                      ({"x-amz-sdk-checksum-algorithm": "SHA1", "x-amz-checksum-crc32": crc}, b"x-amz-sdk-checksum-algorithm header is invalid"),
                      ({"x-amz-server-side-encryption-aws-kms-key-id": "k"}, b"InvalidArgument")]:
    s, h, b, c = call("PUT", "/wire/k", body=b"other", headers=headers)
    assert s == 400 and text in b, (headers, b)
assert call("HEAD", "/")[0] == 405 and call("GET", "/wire/k")[2] == b"hello"
# Chunks that nobody signs: what is behind them is as announced, or nothing is kept.
def chunks(tail, length=5, **headers):
    body = b"5\r\nother\r\n0\r\n" + tail
    return call("PUT", "/wire/k", body=body, payload="STREAMING-UNSIGNED-PAYLOAD-TRAILER", headers={"x-amz-decoded-content-length": str(length), **{k.replace("_", "-"): v for k, v in headers.items()}})
right = base64.b64encode(zlib.crc32(b"other").to_bytes(4, "big"))
announced = {"x_amz_trailer": "x-amz-checksum-crc32"}
for tail, more, want in [(b"\r\n", announced, "MalformedTrailerError"), (b"x-amz-checksum-crc32:" + right + b"\r\nmore:1\r\n\r\n", announced, "MalformedTrailerError"),
                         (b"x-amz-checksum-crc32:!\r\n\r\n", announced, "InvalidRequest"), (b"x-amz-checksum-crc32:" + crc.encode() + b"\r\n\r\n", announced, "BadDigest"),
                         (b"\r\n", {"length": 6}, "IncompleteBody"), (b"\r\n", {"length": 4}, "IncompleteBody"), (b"\n", {}, "IncompleteBody")]:
    assert chunks(tail, **more)[3] == want, (tail, more)
assert b"<NumberBytesExpected>6<" in chunks(b"\r\n", length=6)[2] and call("GET", "/wire/k")[2] == b"hello"
assert chunks(b"x-amz-checksum-crc32: " + right + b"\r\n\r\n", **announced)[0] == 200 and call("GET", "/wire/k")[2] == b"other"
# Who waits to be asked for nothing is not asked, and must not take the answer for the next one's as well: botocore before 1.44 does.
for path, status in (("/wire/nothing", 200), ("/nobodys/k", 404)):
    r = call("PUT", path, headers={"expect": "100-continue"})
    assert (r[0], r[1].get("connection")) == (status, "close"), r
assert "connection" not in call("PUT", "/wire/k2", body=b"a body", headers={"expect": "100-continue"})[1]
assert call("DELETE", "/wire/nothing")[0] == call("DELETE", "/wire/k2")[0] == 204
assert code("PUT", "/Bad_Name") == "InvalidBucketName"
assert code("PUT", "/" + "x" * 64) == "InvalidBucketName"
assert code("PUT", "/wire/" + "k" * 1025) == "KeyTooLongError"
assert code("GET", "/wire", query="max-keys=x") == "InvalidArgument"
assert code("GET", "/wire", query="encoding-type=x") == "InvalidArgument"
assert code("GET", "/wire/k", query="versionId=abc") == "InvalidArgument"
summed = lambda body: {"body": body, "headers": {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}}
assert b"Content-MD5 OR x-amz-checksum-*" in call("POST", "/wire", query="delete", body=b"<Delete/>")[2]
assert code("POST", "/wire", query="delete", **summed(b"<nonsense")) == "MalformedXML"
assert code("POST", "/wire", query="delete", **summed(b"<!DOCTYPE a [<!ENTITY b 'c'>]><Delete><Object><Key>&b;</Key></Object></Delete>")) == "MalformedXML"
assert code("POST", "/wire", query="delete", **summed(b"x" * (3 << 20))) == "EntityTooLarge"
assert code("POST", "/wire/k", query="uploadId=zz", body=b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>") == "NoSuchUpload"
assert code("PUT", "/wire/k", query="partNumber=0&uploadId=" + "0" * 32) == "InvalidArgument"
assert code("PUT", "/wire/k", query="partNumber=1&uploadId=" + "0" * 32, body=b"x") == "NoSuchUpload"
assert code("PATCH", "/wire/k") == "MethodNotAllowed"
assert code("PUT", "/wire", query="versioning", body=b"<VersioningConfiguration/>") == "IllegalVersioningConfigurationException"
assert code("PUT", "/wire/k", query="tagging", body=b"<Tagging/>") == "MalformedXML"
assert code("PUT", "/wire/k", query="tagging", body=b"<!DOCTYPE a [<!ENTITY b 'c'>]><Tagging><TagSet/></Tagging>") == "MalformedXML"
assert code("GET", "/wire/k", query="tagging", anonymous=True) == "AccessDenied"
assert code("PUT", "/wire", query="cors", body=b"<CORSConfiguration/>") == "MalformedXML"
for kind in ("inventory", "metrics", "intelligent-tiering"):
    assert code("GET", "/wire", query=kind + "&id=x") == "NoSuchConfiguration", kind
payer = "<RequestPaymentConfiguration><Payer>%s</Payer></RequestPaymentConfiguration>"
assert call("PUT", "/wire", query="requestPayment", body=(payer % "BucketOwner").encode())[0] == 200
assert code("PUT", "/wire", query="requestPayment", body=(payer % "Somebody").encode()) == "MalformedXML"
assert code("PUT", "/wire", query="session") == "NotImplemented"
assert code("PUT", "/wire/k", headers={"x-amz-storage-class": "WOOD"}) == "InvalidStorageClass"
# A client that announces more than it sends leaves nothing.
call("PUT", "/wire/short", body=b"half", payload="UNSIGNED-PAYLOAD", length=1000)
assert call("GET", "/wire/short")[0] == 404
# Encoded and odd names.
for key in ("a b", "a+b", "ü/ö", "a%2Fb", "~.-_", "'!()*"):
    path = "/wire/" + urllib.parse.quote(key, safe="/~")
    assert call("PUT", path, body=key.encode())[0] == 200, key
    assert call("GET", path)[2] == key.encode(), key
    assert call("DELETE", path)[0] == 204


def version_2(date):
    """What the older signature of a listing is told, with a date."""
    mac = hmac.new(SECRET.encode(), f"GET\n\n\n\nx-amz-date:{date}\n/wire".encode(), hashlib.sha1).digest()
    return code("GET", "/wire", anonymous=True, headers={"x-amz-date": date, "authorization": f"AWS {KEY}:{base64.b64encode(mac).decode()}"})


now = email.utils.formatdate(usegmt=True)
assert version_2(now) is None and version_2("Abc" + now[3:]) is None, "the day of the week is none of its business"
for date, told in (("", "AccessDenied"), ("Bad Date", "AccessDenied"), ("Tue, 07 Jul 1950 21:53:04 GMT", "AccessDenied"),
                   ("Tue, 07 Jul 2010 21:53:04 GMT", "RequestTimeTooSkewed"), ("Tue, 07 Jul 9999 21:53:04 GMT", "RequestTimeTooSkewed")):
    assert version_2(date) == told, (date, version_2(date))
for text, told in (("", "AccessDenied"), ("AWS HAHAHA", "InvalidArgument"), ("AWS none:FWeDfwojDSdS2Ztmpfeubhd9isU=", "AccessDenied"), ("Basic eA==", "InvalidArgument")):
    assert code("PUT", "/wire/k", anonymous=True, headers={"authorization": text}) == told, text
assert code("GET", "/wire", anonymous=True, headers={"x-amz-date": now, "authorization": "AWS none:FWeDfwojDSdS2Ztmpfeubhd9isU="}) == "InvalidAccessKeyId"

for key in ("k",):
    assert call("DELETE", "/wire/" + key)[0] == 204
assert call("DELETE", "/wire")[0] == 204
print("s3 wire ok")
