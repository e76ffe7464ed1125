"""Buckets as web sites, through their host names."""
import http.client, itertools, os, urllib.parse, boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
netloc = urllib.parse.urlparse(os.environ["AWS_ENDPOINT_URL"]).netloc
B = {"Bucket": "pages"}


def code(f, **kw):
    try:
        f(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"]


def get(path, method="GET", host="pages.web.example", **headers):
    c = http.client.HTTPConnection(netloc, timeout=30)
    c.request(method, path, headers={"Host": host} | {k.replace("_", "-"): v for k, v in headers.items()})
    r = c.getresponse()
    return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()


s3.create_bucket(**B)
for key in ("index.html", "error.html", "docs/index.html", "plain", "new/x", "private"):
    s3.put_object(**B, Key=key, Body=key.encode(), ContentType="text/html", ACL="private" if key == "private" else "public-read")
assert get("/")[0] == 404 and b"NoSuchWebsiteConfiguration" in get("/")[2]
assert code(s3.get_bucket_website, **B) == "NoSuchWebsiteConfiguration"
site = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"},
        "RoutingRules": [{"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "new/"}},
                         {"Condition": {"KeyPrefixEquals": "lost/", "HttpErrorCodeReturnedEquals": "403"}, "Redirect": {"HostName": "else.example", "HttpRedirectCode": "302", "Protocol": "https"}}]}
assert code(s3.put_bucket_website, **B, WebsiteConfiguration={"IndexDocument": {"Suffix": "a/b"}}) == "InvalidArgument"
s3.put_bucket_website(**B, WebsiteConfiguration=site)
got = s3.get_bucket_website(**B)
assert {k: got[k] for k in site} == site, got
s, h, b = get("/")
assert (s, b, h["content-type"]) == (200, b"index.html", "text/html")
assert get("/docs/")[2] == b"docs/index.html" and get("/plain")[2] == b"plain"
s, h, b = get("/docs")
assert s == 302 and h["location"] == "/docs/", (s, h)
assert get("/", "HEAD")[1]["content-length"] == "10" and get("/plain", Range="bytes=0-1")[2] == b"pl"
s, h, b = get("/absent", Range="bytes=0-1")
assert s in (403, 404) and b == b"error.html", (s, b)
assert get("/private")[0] == 403 and get("/plain", "PUT")[0] == 405
s, h, b = get("/old/x")
assert s == 301 and h["location"] == "http://pages.web.example/new/x", h
s, h, b = get("/lost/x")
assert s == 302 and h["location"] == "https://else.example/lost/x", (s, h)
rules = lambda **to: site | {"RoutingRules": [{"Condition": {"KeyPrefixEquals": "docs/"}, "Redirect": to}]}
for status in (301, 302, 303, 304, 305, 307, 308):
    s3.put_bucket_website(**B, WebsiteConfiguration=rules(ReplaceKeyWith="moved", HttpRedirectCode=str(status)))
    s, h, b = get("/docs/x")
    assert (s, h["location"], b) == (status, "http://pages.web.example/moved", b""), (s, h, b)
for to in (dict(HttpRedirectCode="300"), dict(HttpRedirectCode="314"), dict(Protocol="http2"), dict(ReplaceKeyPrefixWith="y")):
    assert code(s3.put_bucket_website, **B, WebsiteConfiguration=rules(ReplaceKeyWith="x", **to)) == "InvalidRequest", to
s3.put_bucket_website(**B, WebsiteConfiguration=site | {"RoutingRules": [
    {"Condition": {"KeyPrefixEquals": "images/", "HttpErrorCodeReturnedEquals": "403"}, "Redirect": {"HostName": "else.example", "ReplaceKeyPrefixWith": "report/"}}]})
assert get("/images/x")[1]["location"] == "http://else.example/report/x" and "location" not in get("/x")[1]
# What is told where something is not there, or not for everybody: of the page, and in the words of the error page.
for open_bucket, page, errors in itertools.product((True, False), (None, "private", "public-read"), (None, "private", "public-read")):
    b = f"site-{open_bucket}-{page}-{errors}".lower()
    s3.create_bucket(Bucket=b, ACL="public-read" if open_bucket else "private")
    s3.put_bucket_website(Bucket=b, WebsiteConfiguration={"IndexDocument": {"Suffix": "i"}, "ErrorDocument": {"Key": "e"}})
    for key, acl in (("i", page), ("e", errors)):
        if acl:
            s3.put_object(Bucket=b, Key=key, Body=b"page " + key.encode(), ACL=acl)
    status, told = (200, "page i") if page == "public-read" else (404, "NoSuchKey") if open_bucket and not page else (403, "AccessDenied")
    s, _, body = get("/", host=b + ".web.example")
    wanted = "page e" if status != 200 and errors == "public-read" else told if status == 200 else f"<li>Code: {told}</li>"
    assert s == status and wanted in body.decode(), (b, s, body)
s3.put_bucket_website(**B, WebsiteConfiguration=site)
assert code(s3.put_object, **B, Key="to", Body=b"", WebsiteRedirectLocation="ftp://x") == "InvalidRedirectLocation"
s3.put_object(**B, Key="to", Body=b"", WebsiteRedirectLocation="/plain", ACL="public-read")
assert get("/to")[0] == 301 and get("/to")[1]["location"] == "/plain" and s3.head_object(**B, Key="to")["WebsiteRedirectLocation"] == "/plain"
assert get("/", host="absent.web.example")[0] == 404
s3.put_bucket_website(**B, WebsiteConfiguration={"RedirectAllRequestsTo": {"HostName": "all.example"}})
assert get("/a/b")[1]["location"] == "http://all.example/a/b"
s3.delete_bucket_website(**B)
assert get("/")[0] == 404 and s3.get_bucket_request_payment(**B)["Payer"] == "BucketOwner" and "LoggingEnabled" not in s3.get_bucket_logging(**B)
s3.put_bucket_logging(**B, BucketLoggingStatus={})
assert code(s3.put_bucket_logging, **B, BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "none-such", "TargetPrefix": "l"}}) == "InvalidTargetBucketForLogging"
print("s3 website ok")
