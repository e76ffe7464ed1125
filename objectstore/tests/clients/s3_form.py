"""Uploads by a web page's form through the S3 door: boto3 makes the policies, http.client is the browser."""
import base64, datetime, hashlib, hmac, http.client, json, os, urllib.parse, boto3
from botocore.client import Config

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
netloc = urllib.parse.urlparse(os.environ["AWS_ENDPOINT_URL"]).netloc
s3.create_bucket(Bucket="forms")


def post(fields, data=b"hello", filename="x.txt", file=True, bucket="forms"):
    out = b"".join(b'--BB\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k.encode(), v.encode()) for k, v in fields.items())
    if file:
        out += b'--BB\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: text/x-mine\r\n\r\n%s\r\n' % (filename.encode(), data)
    out += b"--BB--\r\n"
    c = http.client.HTTPConnection(netloc, timeout=30)
    c.request("POST", "/" + bucket, body=out, headers={"Content-Type": "multipart/form-data; boundary=BB"})
    r = c.getresponse()
    body = r.read()
    code = body.split(b"<Code>")[1].split(b"</Code>")[0].decode() if b"<Code>" in body else None
    return r.status, {k.lower(): v for k, v in r.getheaders()}, body, code


def signed(key="k", conditions=(), expires=60, **fields):
    made = s3.generate_presigned_post("forms", key, Fields=fields, Conditions=[{k: v} for k, v in fields.items()] + list(conditions), ExpiresIn=expires)
    return made["fields"]


s, h, b, c = post(signed("dir/${filename}", [["starts-with", "$key", "dir/"]]))
assert s == 204 and h["etag"] == '"%s"' % hashlib.md5(b"hello").hexdigest() and h["location"] == "/forms/dir/x.txt", (s, h, b)
o = s3.get_object(Bucket="forms", Key="dir/x.txt")
assert o["Body"].read() == b"hello" and o["ContentType"] == "text/x-mine"
big = os.urandom(6_000_000)
s, h, b, c = post(signed("big", **{"x-amz-meta-a": "1", "Content-Type": "a/b", "success_action_status": "201", "acl": "public-read"}), big)
assert s == 201 and b"<Key>big</Key>" in b, (s, b)
o = s3.get_object(Bucket="forms", Key="big")
assert o["Body"].read() == big and o["Metadata"] == {"a": "1"} and o["ContentType"] == "a/b"
assert len(s3.get_object_acl(Bucket="forms", Key="big")["Grants"]) == 2
s, h, b, c = post(signed("r", **{"success_action_redirect": "http://back/?a=1"}))
assert s == 303 and h["location"].startswith("http://back/?a=1&bucket=forms&key=r&etag=%22"), h
tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
assert post(signed("t", tagging=tags))[0] == 204 and s3.get_object_tagging(Bucket="forms", Key="t")["TagSet"] == [{"Key": "a", "Value": "b"}]
# lengths
limits = [["content-length-range", 3, 10]]
assert post(signed("l", limits), b"12345")[0] == 204
assert post(signed("short", limits), b"1")[3] == "EntityTooSmall" and post(signed("long", limits), b"x" * 5_000_000)[3] == "EntityTooLarge"
# what the policy does not allow
f = signed()
assert post({**f, "key": "other"})[3] == "AccessDenied" and post({**f, "x-amz-meta-b": "1"})[3] == "AccessDenied"
assert post({**f, "x-ignore-me": "1"})[0] == 204
assert post({**f, "x-amz-signature": "0" * 64})[3] == "SignatureDoesNotMatch"
assert post({**f, "x-amz-credential": f["x-amz-credential"].replace("AQUIFERTESTKEY", "NONE")})[3] == "InvalidAccessKeyId"
assert post(signed(expires=-5))[3] == "AccessDenied"
assert post({k: v for k, v in f.items() if k != "key"})[3] == "InvalidArgument" and post(f, file=False)[3] == "InvalidArgument"
assert post({k: v for k, v in f.items() if k != "policy"})[3] == "AccessDenied", "without a policy it is nobody's"
assert post({**f, "policy": "!"})[3] == "SignatureDoesNotMatch"
assert post(f, bucket="absent-bucket")[3] in ("NoSuchBucket", "AccessDenied")
assert post({**f, "x-ignore-long": "x" * 40000})[3] == "MaxPostPreDataLengthExceededError"
names = {o["Key"] for o in s3.list_objects_v2(Bucket="forms")["Contents"]}
assert names == {"dir/x.txt", "big", "r", "t", "l", "k"}, names
# nobody's form, where everybody may write; and the older signature
s3.put_bucket_acl(Bucket="forms", ACL="public-read-write")
assert post({"key": "free"})[0] == 204
s3.put_bucket_acl(Bucket="forms", ACL="private")
policy = base64.b64encode(json.dumps({"expiration": "2100-01-01T00:00:00Z", "conditions": [{"bucket": "forms"}, {"key": "v2"}]}).encode()).decode()
sign = lambda policy: base64.b64encode(hmac.new(os.environ["AWS_SECRET_ACCESS_KEY"].encode(), policy.encode(), hashlib.sha1).digest()).decode()
sig = sign(policy)
assert post({"key": "v2", "AWSAccessKeyId": os.environ["AWS_ACCESS_KEY_ID"], "policy": policy, "signature": sig})[0] == 204
assert post({"key": "v2", "AWSAccessKeyId": os.environ["AWS_ACCESS_KEY_ID"], "policy": policy, "signature": sig[:-2] + "A="})[3] == "SignatureDoesNotMatch"
unsaid = base64.b64encode(json.dumps({"expiration": "2100-01-01T00:00:00Z", "conditions": [{"key": "v2"}]}).encode()).decode()
s, h, b, c = post({"key": "v2", "AWSAccessKeyId": os.environ["AWS_ACCESS_KEY_ID"], "policy": unsaid, "signature": sign(unsaid)})
assert c == "AccessDenied" and b"Extra input fields: bucket" in b, b
print("s3 forms ok")
