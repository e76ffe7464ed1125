"""Who may reach what through the S3 door: ACLs, ownership, public access, bucket policies, CORS; with boto3."""
import http.client, json, os, boto3, urllib.parse
from botocore import UNSIGNED
from botocore.client import Config
from botocore.exceptions import ClientError

endpoint = os.environ["AWS_ENDPOINT_URL"]
netloc = urllib.parse.urlparse(endpoint).netloc
swift = urllib.parse.urlparse(os.environ["SWIFT_URL"])


def client(key=None, signed=True):
    config = Config(signature_version="s3v4" if signed else UNSIGNED, s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    keys = {"aws_access_key_id": key or os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    kw = keys if signed else {}
    return boto3.client("s3", endpoint_url=endpoint, region_name="RegionOne", config=config, **kw)


own, other, third, nobody = client(), client("KEY-q"), client("KEY-r"), client(signed=False)


def code(f, **kw):
    try:
        f(**kw)
        return None
    except ClientError as e:
        return e.response["Error"]["Code"]


def http_call(host, method, path, **headers):
    c = http.client.HTTPConnection(host, timeout=30)
    c.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    r = c.getresponse()
    return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()


def swift_call(method, path, **headers):
    return http_call(swift.netloc, method, swift.path + path, **headers)


B = {"Bucket": "shared"}
own.create_bucket(**B)
own.put_object(**B, Key="k", Body=b"1")

assert b"<BucketName>absent-bucket</BucketName>" in http_call(netloc, "GET", "/absent-bucket")[2]
own.put_object(**B, Key="look", Body=b"", ACL="public-read")
assert [http_call(netloc, "GET", "/shared/look" + q)[0] for q in ("", "?response-expires=1")] == [200, 400], "only who signs says how an answer looks"
own.delete_object(**B, Key="look")

# bucket ACLs, at both doors
assert code(other.get_object, **B, Key="k") == code(nobody.get_object, **B, Key="k") == "AccessDenied"
assert code(other.get_object, **B, Key="absent") == "AccessDenied"
assert code(other.get_bucket_acl, **B) == code(other.put_bucket_acl, **B, ACL="public-read") == "AccessDenied"
own.put_bucket_acl(**B, ACL="public-read")
assert nobody.list_objects_v2(**B)["KeyCount"] == 1 and code(nobody.get_object, **B, Key="k") == "AccessDenied", "to list is not to read"
assert code(nobody.get_object, **B, Key="absent") == "NoSuchKey", "who may list may know"
assert swift_call("GET", "/shared")[2] == b"k\n" and swift_call("GET", "/shared/k")[0] == 401
assert own.get_bucket_policy_status(**B)["PolicyStatus"]["IsPublic"] is True
own.put_bucket_acl(**B, ACL="authenticated-read")
assert code(nobody.list_objects_v2, **B) == "AccessDenied" and code(other.list_objects_v2, **B) is None
own.put_bucket_acl(**B, ACL="public-read-write")
nobody.put_object(**B, Key="anyone", Body=b"2")
assert code(nobody.delete_object, **B, Key="anyone") is None
grants = own.get_bucket_acl(**B)["Grants"]
assert sorted(g["Permission"] for g in grants) == ["FULL_CONTROL", "READ", "WRITE"], grants
own.put_bucket_acl(**B, GrantRead='id="q"', GrantReadACP="id=q", GrantWrite='id="q"')
assert code(other.list_objects_v2, **B) is None and code(third.list_objects_v2, **B) == "AccessDenied"
assert code(other.get_bucket_acl, **B) is None and code(other.put_bucket_acl, **B, ACL="private") == "AccessDenied"
assert swift_call("HEAD", "/shared", X_Auth_Token="p:member")[1]["x-container-write"] == "q:*"
assert swift_call("GET", "/shared", X_Auth_Token="q:member")[0] == 200
full = {"Owner": {"ID": "p"}, "Grants": [{"Grantee": {"Type": "CanonicalUser", "ID": "q"}, "Permission": "FULL_CONTROL"}]}
own.put_bucket_acl(**B, AccessControlPolicy=full)
assert [(g["Grantee"]["ID"], g["Permission"]) for g in own.get_bucket_acl(**B)["Grants"]] == [("p", "FULL_CONTROL"), ("q", "FULL_CONTROL")]
other.put_bucket_acl(**B, ACL="private")
assert code(other.list_objects_v2, **B) == "AccessDenied"
swift_call("POST", "/shared", X_Auth_Token="p:member", X_Container_Read=".r:*,.rlistings,r:*")
grants = own.get_bucket_acl(**B)["Grants"]
assert [(g["Grantee"]["Type"], g["Permission"]) for g in grants] == [("Group", "READ"), ("CanonicalUser", "FULL_CONTROL"), ("CanonicalUser", "READ")]
assert nobody.get_object(**B, Key="k")["Body"].read() == b"1", "Swift's read ACL opens the objects"
assert code(own.put_bucket_acl, **B, ACL="public-read", GrantRead="id=q") == "InvalidRequest"
assert code(own.put_bucket_acl, **B, ACL="open") == "InvalidArgument"
assert code(own.put_bucket_acl, **B, GrantRead="id=_no") == "InvalidArgument"
assert code(own.put_bucket_acl, **B, GrantRead="emailAddress=a@b.c") == "UnresolvableGrantByEmailAddress"
assert code(own.put_bucket_acl, **B, AccessControlPolicy={**full, "Owner": {"ID": "q"}}) == "AccessDenied"
own.put_bucket_acl(**B, ACL="private")

# objects' own ACLs
own.put_object(**B, Key="open", Body=b"3", ACL="public-read")
assert nobody.get_object(**B, Key="open")["Body"].read() == b"3" and code(nobody.get_object, **B, Key="k") == "AccessDenied"
assert swift_call("GET", "/shared/open")[2] == b"3" and swift_call("GET", "/shared/k")[0] == 401
assert code(nobody.get_object_acl, **B, Key="open") == "AccessDenied"
own.put_object_acl(**B, Key="open", ACL="private")
assert code(nobody.get_object, **B, Key="open") == "AccessDenied" and swift_call("GET", "/shared/open")[0] == 401
own.put_bucket_acl(**B, ACL="public-read")
assert code(nobody.get_object, **B, Key="open") == "AccessDenied", "an object's own ACL comes before its bucket's"
own.put_bucket_acl(**B, ACL="private")
own.put_object_acl(**B, Key="open", GrantFullControl="id=q")
other.put_object_acl(**B, Key="open", GrantRead="id=r")
assert third.get_object(**B, Key="open")["Body"].read() == b"3" and code(other.get_object, **B, Key="open") == "AccessDenied"
assert own.copy_object(**B, Key="copy", CopySource="shared/open") and own.get_object_acl(**B, Key="copy")["Grants"][1:] == []
upload = own.create_multipart_upload(**B, Key="parts", ACL="public-read")["UploadId"]
etag = own.upload_part(**B, Key="parts", UploadId=upload, PartNumber=1, Body=b"4")["ETag"]
own.complete_multipart_upload(**B, Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
assert nobody.get_object(**B, Key="parts")["Body"].read() == b"4"
# What another project writes is its own, and the bucket's owner's.
own.put_bucket_acl(**B, GrantWrite="id=q")
other.put_object(**B, Key="theirs", Body=b"5")
assert other.get_object_acl(**B, Key="theirs")["Owner"]["ID"] == "q" and code(other.get_object, **B, Key="theirs") is None
assert code(own.get_object, **B, Key="theirs") is None and code(third.get_object, **B, Key="theirs") == "AccessDenied"


def owners(page, of="Contents"):
    return {o["Key"]: o["Owner"]["ID"] for o in page[of]}


for page, of in ((own.list_objects(**B), "Contents"), (own.list_objects_v2(**B, FetchOwner=True), "Contents"), (own.list_object_versions(**B), "Versions")):
    assert owners(page, of)["theirs"] == "q" and set(owners(page, of).values()) == {"p", "q"}, page
own.put_bucket_ownership_controls(**B, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]})
other.put_object(**B, Key="given", Body=b"6", ACL="bucket-owner-full-control")
assert own.get_object_acl(**B, Key="given")["Owner"]["ID"] == "p"
upload = dict(**B, Key="theirs", UploadId=other.create_multipart_upload(**B, Key="theirs")["UploadId"])
assert other.list_parts(**upload)["Owner"]["ID"] == other.list_parts(**upload)["Initiator"]["ID"] == "q"
assert [(u["Owner"]["ID"], u["Initiator"]["ID"]) for u in own.list_multipart_uploads(**B)["Uploads"]] == [("q", "q")]
own.put_bucket_acl(**B, ACL="private")

# ownership
enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
own.put_bucket_acl(**B, ACL="public-read")
assert code(own.put_bucket_ownership_controls, **B, OwnershipControls=enforced) == "InvalidBucketAclWithObjectOwnership"
own.put_bucket_acl(**B, ACL="private")
own.put_bucket_ownership_controls(**B, OwnershipControls=enforced)
assert own.get_bucket_ownership_controls(**B)["OwnershipControls"] == enforced
assert code(own.put_bucket_acl, **B, ACL="public-read") == "AccessControlListNotSupported"
assert code(own.put_object, **B, Key="x", Body=b"", ACL="public-read") == "AccessControlListNotSupported"
assert code(own.put_object, **B, Key="x", Body=b"", ACL="private") == code(own.put_bucket_acl, **B, ACL="private") == "AccessControlListNotSupported"
assert code(own.put_object, **B, Key="x", Body=b"", ACL="bucket-owner-full-control") is None
assert code(own.put_object_acl, **B, Key="x", ACL="public-read") == "AccessControlListNotSupported"
assert code(nobody.get_object, **B, Key="parts") == "AccessDenied", "objects' ACLs count for nothing"
listed = [own.list_parts(**upload), *own.list_multipart_uploads(**B)["Uploads"]]
assert [(u["Owner"]["ID"], u["Initiator"]["ID"]) for u in listed] == [("p", "q")] * 2, "who began it stays"
own.abort_multipart_upload(**upload)
assert set(owners(own.list_objects(**B)).values()) == {"p"} and own.get_object_acl(**B, Key="theirs")["Owner"]["ID"] == "p"
own.delete_bucket_ownership_controls(**B)
assert code(own.get_bucket_ownership_controls, **B) == "OwnershipControlsNotFoundError"
assert code(own.create_bucket, Bucket="enforced", ObjectOwnership="BucketOwnerEnforced", ACL="public-read") == "InvalidBucketAclWithObjectOwnership"
own.create_bucket(Bucket="enforced", ObjectOwnership="BucketOwnerEnforced")
assert own.get_bucket_ownership_controls(Bucket="enforced")["OwnershipControls"] == enforced
own.delete_bucket(Bucket="enforced")

# public access block
block = dict(BlockPublicAcls=False, IgnorePublicAcls=True, BlockPublicPolicy=False, RestrictPublicBuckets=False)
own.put_bucket_acl(**B, ACL="public-read")
own.put_public_access_block(**B, PublicAccessBlockConfiguration=block)
assert own.get_public_access_block(**B)["PublicAccessBlockConfiguration"] == block
assert code(nobody.list_objects_v2, **B) == "AccessDenied" and swift_call("GET", "/shared")[0] == 401
assert own.get_bucket_policy_status(**B)["PolicyStatus"]["IsPublic"] is False
own.put_public_access_block(**B, PublicAccessBlockConfiguration={**block, "IgnorePublicAcls": False, "BlockPublicAcls": True})
assert code(nobody.list_objects_v2, **B) is None, "what was open before stays open"
own.put_bucket_acl(**B, ACL="private")
assert code(own.put_bucket_acl, **B, ACL="public-read") == "AccessDenied"
assert code(own.put_object, **B, Key="x", Body=b"", ACL="public-read") == "AccessDenied"
assert swift_call("POST", "/shared", X_Auth_Token="p:member", X_Container_Read=".r:*")[0] == 403
assert swift_call("POST", "/shared", X_Auth_Token="p:member", X_Container_Read="q:*")[0] == 204
assert code(other.get_public_access_block, **B) == "AccessDenied"
own.put_bucket_acl(**B, ACL="private")
own.put_public_access_block(**B, PublicAccessBlockConfiguration={"BlockPublicPolicy": True})


# bucket policy
def policy(*statements, bucket="shared"):
    base = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [{**base, **s} for s in statements]})


put = lambda *s: own.put_bucket_policy(**B, Policy=policy(*s))
assert code(own.put_bucket_policy, **B, Policy=policy({})) == "AccessDenied"
own.delete_public_access_block(**B)
assert code(own.get_public_access_block, **B) == "NoSuchPublicAccessBlockConfiguration"
for bad in ["", "{}", policy({"Condition": {"StringEquals": {"aws:SourceVpc": "x"}}}), policy({"Resource": "arn:aws:s3:::else/*"}), policy({"Action": "s3"})]:
    assert code(own.put_bucket_policy, **B, Policy=bad) == "MalformedPolicy", bad
put({})
assert json.loads(own.get_bucket_policy(**B)["Policy"]) == json.loads(policy({}))
assert own.get_bucket_policy_status(**B)["PolicyStatus"]["IsPublic"] is True
assert code(nobody.get_object, **B, Key="k") is None and code(nobody.list_objects_v2, **B) == "AccessDenied"
assert swift_call("GET", "/shared/k")[2] == b"1"
own.put_public_access_block(**B, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True})
assert code(nobody.get_object, **B, Key="k") == code(other.get_object, **B, Key="k") == "AccessDenied"
own.delete_public_access_block(**B)
to_q = {"Principal": {"AWS": "arn:aws:iam::q:root"}}
put(to_q)
assert own.get_bucket_policy_status(**B)["PolicyStatus"]["IsPublic"] is False
assert code(other.get_object, **B, Key="k") is None and code(third.get_object, **B, Key="k") == code(nobody.get_object, **B, Key="k") == "AccessDenied"
assert code(other.put_object, **B, Key="n", Body=b"") == "AccessDenied"
put({**to_q, "Action": ["s3:PutObject", "s3:DeleteObject"], "Resource": "arn:aws:s3:::shared/in/*"}, {**to_q, "Action": "s3:GetObject"})
assert code(other.put_object, **B, Key="in/n", Body=b"7") is None and code(other.put_object, **B, Key="n", Body=b"") == "AccessDenied"
r = other.delete_objects(**B, Delete={"Objects": [{"Key": "in/n"}, {"Key": "k"}]})
assert [d["Key"] for d in r["Deleted"]] == ["in/n"] and [(e["Key"], e["Code"]) for e in r["Errors"]] == [("k", "AccessDenied")]
# a copy needs both ends
assert code(other.copy_object, **B, Key="in/c", CopySource="shared/k") is None
assert code(other.copy_object, **B, Key="out", CopySource="shared/k") == "AccessDenied"
# a denial comes before everything, for the owner too, at both doors; but the policy stays in reach
put({"Effect": "Deny"}, {})
assert code(own.get_object, **B, Key="k") == code(nobody.get_object, **B, Key="k") == "AccessDenied"
assert swift_call("GET", "/shared/k", X_Auth_Token="p:member")[0] == 403
assert code(own.copy_object, **B, Key="k2", CopySource="shared/k") == "AccessDenied"
put({"Effect": "Deny", "Action": "s3:*", "Resource": ["arn:aws:s3:::shared", "arn:aws:s3:::shared/*"]})
assert code(own.list_objects_v2, **B) == code(own.get_bucket_acl, **B) == "AccessDenied"
assert code(own.get_bucket_policy, **B) is None
# conditions
put({"Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}})
assert code(nobody.get_object, **B, Key="k") is None
put({"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}})
assert code(nobody.get_object, **B, Key="k") == "AccessDenied"
put({"Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}})
assert code(own.get_object, **B, Key="k") == "AccessDenied"
listing = {"Action": "s3:ListBucket", "Resource": "arn:aws:s3:::shared"}
put({**listing, "Condition": {"StringLike": {"s3:prefix": "in/*"}, "NumericLessThanEquals": {"s3:max-keys": "5"}}})
assert code(nobody.list_objects_v2, **B, Prefix="in/", MaxKeys=5) is None
assert code(nobody.list_objects_v2, **B, Prefix="in/", MaxKeys=6) == code(nobody.list_objects_v2, **B, MaxKeys=5) == "AccessDenied"
put({"Condition": {"NumericLessThan": {"s3:signatureAge": 600000}, "StringEquals": {"aws:RequestedRegion": "RegionOne", "aws:ResourceAccount": "p"}}})
assert code(other.get_object, **B, Key="k") is None and code(nobody.get_object, **B, Key="k") == "AccessDenied", "nobody has signed"
put({"Condition": {"StringEquals": {"s3:ExistingObjectTag/colour": "red"}}})
own.put_object(**B, Key="tagged", Body=b"8", Tagging="colour=red")
assert code(nobody.get_object, **B, Key="tagged") is None and code(nobody.get_object, **B, Key="k") == "AccessDenied"
put({"Effect": "Deny", "Action": "s3:DeleteObject", "Condition": {"Null": {"s3:if-match": "true"}}})
own.put_object(**B, Key="guarded", Body=b"")
assert code(own.delete_object, **B, Key="guarded") == "AccessDenied" and code(own.delete_object, **B, Key="guarded", IfMatch="*") is None
put({"Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject", "Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::else"}, "StringEquals": {"aws:SourceAccount": "p"}}})
put({"Effect": "Deny", "Action": "s3:PutObject", "Condition": {"Null": {"s3:x-amz-acl": "true"}}})
assert code(own.put_object, **B, Key="x", Body=b"") == "AccessDenied" and code(own.put_object, **B, Key="x", Body=b"", ACL="private") is None
put({"Effect": "Deny", "Action": "s3:PutObject", "Condition": {"StringNotEquals": {"s3:RequestObjectTag/colour": "red"}}})
assert code(own.put_object, **B, Key="x", Body=b"") == "AccessDenied" and code(own.put_object, **B, Key="x", Body=b"", Tagging="colour=red") is None
put({**to_q, "Action": "s3:GetObjectTagging"}, {**to_q, **listing, "Action": ["s3:GetBucketCORS", "s3:PutBucketPolicy"]})
assert other.get_object_tagging(**B, Key="tagged")["TagSet"] and code(other.get_bucket_cors, **B) == "NoSuchCORSConfiguration"
other.put_bucket_policy(**B, Policy=policy({"Principal": {"AWS": "r"}}))
assert code(third.get_object, **B, Key="k") is None
own.delete_bucket_policy(**B)
assert code(own.get_bucket_policy, **B) == "NoSuchBucketPolicy"
assert own.get_bucket_policy_status(**B)["PolicyStatus"]["IsPublic"] is False
assert code(third.get_object, **B, Key="k") == "AccessDenied"

# whose bucket it is
assert code(own.get_object, **B, Key="k", ExpectedBucketOwner="q") == code(own.head_bucket, **B, ExpectedBucketOwner="q") .replace("403", "AccessDenied") == "AccessDenied"
assert code(own.get_object, **B, Key="k", ExpectedBucketOwner="p") is None
assert code(own.copy_object, **B, Key="c2", CopySource="shared/k", ExpectedSourceBucketOwner="q") == "AccessDenied"

# the older signature: in the header, and in presigned URLs
old = boto3.client("s3", endpoint_url=endpoint, region_name="RegionOne", config=Config(signature_version="s3", s3={"addressing_style": "path"}))
old.put_object(**B, Key="old/ü x", Body=b"v2", Metadata={"a": "1"}, ContentType="a/b")
assert old.get_object(**B, Key="old/ü x")["Body"].read() == b"v2" and [o["Key"] for o in old.list_objects(**B, Prefix="old/")["Contents"]] == ["old/ü x"]
assert old.get_bucket_acl(**B)["Owner"]["ID"] == "p"
wrong = boto3.client("s3", endpoint_url=endpoint, region_name="RegionOne", aws_secret_access_key="wrong", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], config=Config(signature_version="s3", s3={"addressing_style": "path"}))
assert code(wrong.list_objects, **B) == "SignatureDoesNotMatch"
url = old.generate_presigned_url("get_object", Params={**B, "Key": "old/ü x", "ResponseContentType": "c/d"}, ExpiresIn=60).removeprefix(endpoint)
assert "AWSAccessKeyId=" in url
s, h, b = http_call(netloc, "GET", url)
assert (s, b, h["content-type"]) == (200, b"v2", "c/d"), (s, b)
assert http_call(netloc, "GET", url.replace("c%2Fd", "e%2Ff"))[0] == 403 and http_call(netloc, "HEAD", url)[0] == 403
assert http_call(netloc, "GET", own.generate_presigned_url("get_object", Params={**B, "Key": "k"}, ExpiresIn=0).removeprefix(endpoint))[0] == 403
assert http_call(netloc, "GET", old.generate_presigned_url("get_object", Params={**B, "Key": "k"}, ExpiresIn=-5).removeprefix(endpoint))[0] == 403

# CORS
preflight = lambda origin, method, path="/shared/k", **h: http_call(netloc, "OPTIONS", path, Origin=origin, Access_Control_Request_Method=method, **h)
s, h, b = preflight("http://a.example", "GET")
assert s == 403 and b"CORS is not enabled" in b, b
rules = [{"ID": "one", "AllowedOrigins": ["http://*.example"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["x-amz-*"], "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 30},
         {"AllowedOrigins": ["*"], "AllowedMethods": ["HEAD"]}]
own.put_bucket_cors(**B, CORSConfiguration={"CORSRules": rules})
assert own.get_bucket_cors(**B)["CORSRules"] == rules
s, h, b = preflight("http://a.example", "PUT", Access_Control_Request_Headers="X-Amz-Date")
assert s == 200 and h["access-control-allow-origin"] == "http://a.example" and h["access-control-allow-headers"] == "x-amz-date", (s, h, b)
assert h["access-control-max-age"] == "30" and h["access-control-allow-methods"] == "GET, PUT" and h["access-control-allow-credentials"] == "true"
assert preflight("http://a.example", "PUT", Access_Control_Request_Headers="authorization")[0] == 403
assert preflight("http://a.example", "DELETE")[0] == preflight("http://else", "GET")[0] == 403
assert preflight("http://else", "HEAD")[1]["access-control-allow-origin"] == "*"
assert preflight("http://else", "PATCH")[0] == 400 and http_call(netloc, "OPTIONS", "/shared/k")[0] == 400
assert preflight("http://a.example", "GET", path="/absent-bucket/k")[0] == 404
# The answer of a request is marked, one that refuses too.
s, h, b = http_call(netloc, "GET", "/shared/k", Origin="http://a.example")
assert s == 403 and h["access-control-allow-origin"] == "http://a.example" and h["access-control-expose-headers"] == "ETag"
assert "access-control-allow-origin" not in http_call(netloc, "GET", "/shared/k", Origin="http://else")[1]
assert code(other.get_bucket_cors, **B) == code(other.delete_bucket_cors, **B) == "AccessDenied"
own.delete_bucket_cors(**B)
assert code(own.get_bucket_cors, **B) == "NoSuchCORSConfiguration"
print("s3 access ok")
