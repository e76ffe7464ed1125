"""boto3 against the S3 door: what its users do every day, and the errors that they act on."""
import hashlib, io, os, urllib.request, urllib.error
import boto3
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import ClientError


def client(key=os.environ["AWS_ACCESS_KEY_ID"], secret=os.environ["AWS_SECRET_ACCESS_KEY"]):
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    return boto3.client("s3", aws_access_key_id=key, aws_secret_access_key=secret, config=config)


s3 = client()


def code(call, *args, **kw):
    try:
        call(*args, **kw)
    except ClientError as e:
        return e.response["Error"]["Code"]
    return None


def refused(want, call, *args, **kw):
    """Makes the call, which must be refused with the code `want`."""
    got = code(call, *args, **kw)
    assert got == want, f"{call.__name__}({kw}): {got}, not {want}"


# buckets
s3.create_bucket(Bucket="walk", CreateBucketConfiguration={"LocationConstraint": "RegionOne"})
refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket="walk")
other = client("KEY-q")
refused("BucketAlreadyExists", other.create_bucket, Bucket="walk")
refused("AccessDenied", other.list_objects_v2, Bucket="walk")
refused("AccessDenied", other.put_object, Bucket="walk", Key="k", Body=b"")
assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["walk"]
assert other.list_buckets()["Buckets"] == []
assert s3.get_bucket_location(Bucket="walk")["LocationConstraint"] == "RegionOne"
s3.head_bucket(Bucket="walk")
tags = [{"Key": "a", "Value": "b"}]
refused("InvalidTag", s3.create_bucket, Bucket="walk2", CreateBucketConfiguration={"Tags": tags * 2})
s3.create_bucket(Bucket="walk2", CreateBucketConfiguration={"Tags": tags})
assert s3.get_bucket_tagging(Bucket="walk2")["TagSet"] == tags
page = s3.list_buckets(MaxBuckets=1, Prefix="walk")
assert [(b["Name"], b["BucketRegion"]) for b in page["Buckets"]] == [("walk", "RegionOne")] and page["Prefix"] == "walk"
page = s3.list_buckets(MaxBuckets=1, Prefix="walk", ContinuationToken=page["ContinuationToken"])
assert [b["Name"] for b in page["Buckets"]] == ["walk2"] and "ContinuationToken" not in page
assert s3.list_buckets(Prefix="x")["Buckets"] == s3.list_buckets(BucketRegion="elsewhere")["Buckets"] == []
assert len(s3.list_buckets(BucketRegion="RegionOne")["Buckets"]) == 2 and "BucketRegion" not in s3.list_buckets()["Buckets"][0]
refused("InvalidArgument", s3.list_buckets, MaxBuckets=10001)
s3.delete_bucket(Bucket="walk2")
for call in (s3.list_objects_v2, s3.list_objects, s3.list_object_versions):
    call(Bucket="walk", OptionalObjectAttributes=["RestoreStatus"])
    refused("InvalidArgument", call, Bucket="walk", OptionalObjectAttributes=["Colour"])
refused("404", s3.head_bucket, Bucket="absent")
refused("NoSuchBucket", s3.list_objects_v2, Bucket="absent")

# objects
body = os.urandom(100_000)
r = s3.put_object(Bucket="walk", Key="a/b ü+&%.txt", Body=body, Metadata={"colour": "blue"}, ContentType="text/x",
                  CacheControl="no-cache", ContentDisposition="inline")
assert r["ETag"] == '"%s"' % hashlib.md5(body).hexdigest() and r["ChecksumCRC32"]
r = s3.get_object(Bucket="walk", Key="a/b ü+&%.txt")
assert r["Body"].read() == body and r["Metadata"] == {"colour": "blue"} and r["ContentType"] == "text/x"
assert r["CacheControl"] == "no-cache" and r["ContentDisposition"] == "inline" and "ContentEncoding" not in r
etag = r["ETag"]
h = s3.head_object(Bucket="walk", Key="a/b ü+&%.txt")
assert h["ContentLength"] == 100_000 and h["ETag"] == etag
for spec, want in [("bytes=0-9", body[:10]), ("bytes=-10", body[-10:]), ("bytes=99990-", body[99990:])]:
    r = s3.get_object(Bucket="walk", Key="a/b ü+&%.txt", Range=spec)
    assert r["Body"].read() == want and r["ResponseMetadata"]["HTTPStatusCode"] == 206
refused("InvalidRange", s3.get_object, Bucket="walk", Key="a/b ü+&%.txt", Range="bytes=100000-")
refused("NoSuchKey", s3.get_object, Bucket="walk", Key="absent")
refused("404", s3.head_object, Bucket="walk", Key="absent")
refused("304", s3.get_object, Bucket="walk", Key="a/b ü+&%.txt", IfNoneMatch=etag)
refused("PreconditionFailed", s3.get_object, Bucket="walk", Key="a/b ü+&%.txt", IfMatch='"x"')
s3.get_object(Bucket="walk", Key="a/b ü+&%.txt", IfMatch=etag)

# conditional writes, digests
refused("PreconditionFailed", s3.put_object, Bucket="walk", Key="a/b ü+&%.txt", Body=b"", IfNoneMatch="*")
s3.put_object(Bucket="walk", Key="new", Body=b"1", IfNoneMatch="*")
refused("PreconditionFailed", s3.put_object, Bucket="walk", Key="new", Body=b"2", IfMatch='"x"')
refused("NoSuchKey", s3.put_object, Bucket="walk", Key="nope", Body=b"2", IfMatch='"x"')
refused("BadDigest", s3.put_object, Bucket="walk", Key="new", Body=b"2", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
refused("BadDigest", s3.put_object, Bucket="walk", Key="new", Body=b"2", ChecksumSHA256="A" * 43 + "=")
assert s3.get_object(Bucket="walk", Key="new")["Body"].read() == b"1"
for algorithm in ("CRC32", "SHA1", "SHA256"):
    r = s3.put_object(Bucket="walk", Key="sum", Body=io.BytesIO(body), ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket="walk", Key="sum", ChecksumMode="ENABLED")
    assert got["Checksum" + algorithm] == r["Checksum" + algorithm] and got["Body"].read() == body
s3.put_object(Bucket="walk", Key="zero", Body=b"")
assert s3.get_object(Bucket="walk", Key="zero")["Body"].read() == b""

# listings
for i in range(25):
    s3.put_object(Bucket="walk", Key=f"list/{i % 5}/k{i:02}", Body=b"x")
keys = [o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(Bucket="walk", Prefix="list/", PaginationConfig={"PageSize": 4}) for o in p["Contents"]]
assert keys == sorted(f"list/{i % 5}/k{i:02}" for i in range(25))
keys1 = [o["Key"] for p in s3.get_paginator("list_objects").paginate(Bucket="walk", Prefix="list/", PaginationConfig={"PageSize": 7}) for o in p["Contents"]]
assert keys1 == keys
p = s3.list_objects_v2(Bucket="walk", Prefix="list/", Delimiter="/")
assert [c["Prefix"] for c in p["CommonPrefixes"]] == [f"list/{i}/" for i in range(5)] and p["KeyCount"] == 5
p = s3.list_objects_v2(Bucket="walk", Prefix="list/", Delimiter="/", MaxKeys=2)
assert p["IsTruncated"] and len(p["CommonPrefixes"]) == 2
p = s3.list_objects_v2(Bucket="walk", Prefix="list/", Delimiter="/", ContinuationToken=p["NextContinuationToken"])
assert [c["Prefix"] for c in p["CommonPrefixes"]] == ["list/2/", "list/3/", "list/4/"]
assert s3.list_objects_v2(Bucket="walk", MaxKeys=0)["KeyCount"] == 0
assert s3.list_objects_v2(Bucket="walk", StartAfter="new", FetchOwner=True)["Contents"][0]["Owner"]["ID"] == "p"
assert "a/b ü+&%.txt" in [o["Key"] for o in s3.list_objects(Bucket="walk")["Contents"]]
refused("InvalidArgument", s3.list_objects_v2, Bucket="walk", ContinuationToken="!!")
page = s3.list_objects_v2(Bucket="walk", Prefix="list/0", ContinuationToken="")
assert (page["ContinuationToken"], len(page["Contents"])) == ("", 5), "that is the beginning"
v = s3.list_object_versions(Bucket="walk", Prefix="new")
assert [(x["Key"], x["VersionId"], x["IsLatest"]) for x in v["Versions"]] == [("new", "null", True)]

# copies
r = s3.copy_object(Bucket="walk", Key="copy", CopySource={"Bucket": "walk", "Key": "a/b ü+&%.txt"})
assert r["CopyObjectResult"]["ETag"] == etag and r["CopyObjectResult"]["ChecksumType"] == "FULL_OBJECT"
refused("InvalidRequest", s3.copy_object, Bucket="walk", Key="copy", CopySource="walk/new", ChecksumAlgorithm="MD4")
r = s3.get_object(Bucket="walk", Key="copy")
assert r["Body"].read() == body and r["Metadata"] == {"colour": "blue"}
s3.copy_object(Bucket="walk", Key="copy", CopySource="walk/copy", MetadataDirective="REPLACE", Metadata={"x": "y"})
assert s3.head_object(Bucket="walk", Key="copy")["Metadata"] == {"x": "y"}
refused("InvalidRequest", s3.copy_object, Bucket="walk", Key="copy", CopySource="walk/copy")
refused("NoSuchKey", s3.copy_object, Bucket="walk", Key="c", CopySource="walk/absent")
refused("PreconditionFailed", s3.copy_object, Bucket="walk", Key="c", CopySource="walk/copy", CopySourceIfMatch="x")

# multipart, by the transfer manager and by hand
big = os.urandom(17 << 20)
cfg = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
s3.upload_fileobj(io.BytesIO(big), "walk", "big", Config=cfg, ExtraArgs={"Metadata": {"m": "n"}})
out = io.BytesIO()
s3.download_fileobj("walk", "big", out, Config=cfg)
assert out.getvalue() == big
h = s3.head_object(Bucket="walk", Key="big")
assert h["ETag"].endswith('-4"') and h["Metadata"] == {"m": "n"} and h["ContentLength"] == len(big)
r = s3.get_object(Bucket="walk", Key="big", Range="bytes=5242870-5242889")
assert r["Body"].read() == big[5242870:5242890]
assert s3.get_object(Bucket="walk", Key="big", PartNumber=4)["Body"].read() == big[15 << 20:]
assert s3.get_object_attributes(Bucket="walk", Key="big", ObjectAttributes=["ObjectSize", "ObjectParts"])["ObjectParts"]["TotalPartsCount"] == 4
up = s3.create_multipart_upload(Bucket="walk", Key="hand", ChecksumAlgorithm="SHA256")
uid = up["UploadId"]
assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket="walk")["Uploads"]] == [uid]
p2 = s3.upload_part(Bucket="walk", Key="hand", UploadId=uid, PartNumber=2, Body=b"tail", ChecksumAlgorithm="SHA256")
p1 = s3.upload_part_copy(Bucket="walk", Key="hand", UploadId=uid, PartNumber=1, CopySource="walk/big", CopySourceRange="bytes=0-5242879")
assert [p["PartNumber"] for p in s3.list_parts(Bucket="walk", Key="hand", UploadId=uid)["Parts"]] == [1, 2]
one = {"PartNumber": 1, "ETag": p1["CopyPartResult"]["ETag"], "ChecksumSHA256": p1["CopyPartResult"]["ChecksumSHA256"]}
two = {"PartNumber": 2, "ETag": p2["ETag"], "ChecksumSHA256": p2["ChecksumSHA256"]}
done = lambda parts, key="hand", id=uid: s3.complete_multipart_upload(Bucket="walk", Key=key, UploadId=id, MultipartUpload={"Parts": parts})
refused("InvalidPartOrder", done, [two, one])
refused("InvalidPart", done, [one, {"PartNumber": 3, "ETag": "x"}])
refused("NoSuchUpload", done, [one, two], "hand", "0" * 32)
r = done([one, two])
assert r["ChecksumSHA256"].endswith("-2")
assert s3.get_object(Bucket="walk", Key="hand")["Body"].read() == big[:5242880] + b"tail"
up = s3.create_multipart_upload(Bucket="walk", Key="small")["UploadId"]
parts = [{"PartNumber": n, "ETag": s3.upload_part(Bucket="walk", Key="small", UploadId=up, PartNumber=n, Body=b"x")["ETag"]} for n in (1, 2)]
refused("EntityTooSmall", done, parts, "small", up)
s3.abort_multipart_upload(Bucket="walk", Key="small", UploadId=up)
refused("NoSuchUpload", s3.abort_multipart_upload, Bucket="walk", Key="small", UploadId=up)
assert "Uploads" not in s3.list_multipart_uploads(Bucket="walk")
# Uploads page by page, rolled up too: what many have in common is one line, and does not come again.
ids = {}
for key in ("a/1", "a/2", "a/3", "a/4", "b", "b", "c/1", "d"):
    ids.setdefault(key, []).append(s3.create_multipart_upload(Bucket="walk", Key="ups/" + key)["UploadId"])


def uploads(size, **kw):
    pages = list(s3.get_paginator("list_multipart_uploads").paginate(Bucket="walk", Prefix="ups/", PaginationConfig={"PageSize": size}, **kw))
    assert all(len(p.get("Uploads", [])) + len(p.get("CommonPrefixes", [])) == size for p in pages[:-1]), pages
    lines = [[u["Key"] for u in p.get("Uploads", [])] + [c["Prefix"] for c in p.get("CommonPrefixes", [])] for p in pages]
    return sorted(line.removeprefix("ups/") for page in lines for line in page)


for size in (1, 2, 3, 100):
    assert uploads(size) == ["a/1", "a/2", "a/3", "a/4", "b", "b", "c/1", "d"], size
    assert uploads(size, Delimiter="/") == ["a/", "b", "b", "c/", "d"], (size, uploads(size, Delimiter="/"))
page = s3.list_multipart_uploads(Bucket="walk", Prefix="ups/", Delimiter="/", MaxUploads=1)
assert (page["IsTruncated"], page["NextKeyMarker"], page["NextUploadIdMarker"]) == (True, "ups/a/", ""), page
page = s3.list_multipart_uploads(Bucket="walk", KeyMarker="ups/a/4", MaxUploads=1, EncodingType="url")
assert (page["Uploads"][0]["Key"], page["NextKeyMarker"], page["EncodingType"]) == ("ups/b", "ups/b", "url") and page["NextUploadIdMarker"] == ids["b"][0]
for key, some in ids.items():
    for uid in some:
        s3.abort_multipart_upload(Bucket="walk", Key="ups/" + key, UploadId=uid)

# presigned
url = s3.generate_presigned_url("get_object", Params={"Bucket": "walk", "Key": "new", "ResponseContentType": "x/y"}, ExpiresIn=60)
r = urllib.request.urlopen(url)
assert r.read() == b"1" and r.headers["Content-Type"] == "x/y"
try:
    urllib.request.urlopen(url + "0")
    raise SystemExit("a changed signature was taken")
except urllib.error.HTTPError as e:
    assert e.code == 403 and b"SignatureDoesNotMatch" in e.read()
put = s3.generate_presigned_url("put_object", Params={"Bucket": "walk", "Key": "signed"}, ExpiresIn=60)
urllib.request.urlopen(urllib.request.Request(put, data=b"by url", method="PUT", headers={"Content-Type": ""}))
assert s3.get_object(Bucket="walk", Key="signed")["Body"].read() == b"by url"

# what is not configured
for call, want in [(s3.get_bucket_policy, "NoSuchBucketPolicy"), (s3.get_bucket_cors, "NoSuchCORSConfiguration"),
                   (s3.get_bucket_lifecycle_configuration, "NoSuchLifecycleConfiguration"), (s3.get_bucket_tagging, "NoSuchTagSet"),
                   (s3.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError"),
                   (s3.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
                   (s3.get_public_access_block, "NoSuchPublicAccessBlockConfiguration")]:
    refused(want, call, Bucket="walk")
assert "Status" not in s3.get_bucket_versioning(Bucket="walk")

# tags
def tags(**kw):
    return {t["Key"]: t["Value"] for t in s3.get_object_tagging(Bucket="walk", **kw)["TagSet"]}


def tagset(d):
    return {"TagSet": [{"Key": k, "Value": v} for k, v in d.items()]}


s3.put_object(Bucket="walk", Key="t", Body=b"x", Tagging="a=b&c%20d=%C3%BC")
assert tags(Key="t") == {"a": "b", "c d": "ü"}
before = s3.head_object(Bucket="walk", Key="t")
assert before["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
s3.put_object_tagging(Bucket="walk", Key="t", Tagging=tagset({"e": "f"}))
after = s3.head_object(Bucket="walk", Key="t")
assert tags(Key="t") == {"e": "f"} and after["LastModified"] == before["LastModified"] and after["ETag"] == before["ETag"]
s3.copy_object(Bucket="walk", Key="t2", CopySource="walk/t")
assert tags(Key="t2") == {"e": "f"}
s3.copy_object(Bucket="walk", Key="t2", CopySource="walk/t", TaggingDirective="REPLACE", Tagging="n=1")
assert tags(Key="t2") == {"n": "1"}
u = s3.create_multipart_upload(Bucket="walk", Key="t3", Tagging="m=p")["UploadId"]
p = s3.upload_part(Bucket="walk", Key="t3", UploadId=u, PartNumber=1, Body=b"1")
s3.complete_multipart_upload(Bucket="walk", Key="t3", UploadId=u, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": p["ETag"]}]})
assert tags(Key="t3") == {"m": "p"}
s3.delete_object_tagging(Bucket="walk", Key="t")
assert tags(Key="t") == {} and s3.get_object(Bucket="walk", Key="t")["Body"].read() == b"x"
refused("InvalidTag", s3.put_object, Bucket="walk", Key="t", Body=b"", Tagging="&".join(f"k{n}=" for n in range(11)))
refused("InvalidArgument", s3.put_object, Bucket="walk", Key="t", Body=b"", Tagging="a=1&a=2")
refused("InvalidTag", s3.put_object_tagging, Bucket="walk", Key="t", Tagging=tagset({"aws:x": "1"}))
refused("NoSuchKey", s3.put_object_tagging, Bucket="walk", Key="absent", Tagging=tagset({"a": "1"}))
refused("AccessDenied", other.get_object_tagging, Bucket="walk", Key="t")
s3.put_bucket_tagging(Bucket="walk", Tagging=tagset({"team": "blue"}))
assert s3.get_bucket_tagging(Bucket="walk")["TagSet"] == [{"Key": "team", "Value": "blue"}]
refused("AccessDenied", other.get_bucket_tagging, Bucket="walk")
s3.delete_bucket_tagging(Bucket="walk")
refused("NoSuchTagSet", s3.get_bucket_tagging, Bucket="walk")
assert s3.get_object_tagging(Bucket="walk", Key="new")["TagSet"] == []
assert len(s3.get_bucket_acl(Bucket="walk")["Grants"]) == 1
anonymous = os.environ["AWS_ENDPOINT_URL"] + "/walk/new"
try:
    urllib.request.urlopen(anonymous)
    raise SystemExit("a private object was given to anybody")
except urllib.error.HTTPError as e:
    assert e.code == 403
s3.put_bucket_acl(Bucket="walk", ACL="public-read")
assert len(s3.get_bucket_acl(Bucket="walk")["Grants"]) == 2
assert b"<Key>new</Key>" in urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/walk").read()
s3.put_object_acl(Bucket="walk", Key="new", ACL="public-read")
assert urllib.request.urlopen(anonymous).read() == b"1"
bad = client("UNKNOWN")
refused("InvalidAccessKeyId", bad.list_buckets)
bad = client(secret="wrong")
refused("SignatureDoesNotMatch", bad.list_buckets)

# deleting
refused("BucketNotEmpty", s3.delete_bucket, Bucket="walk")
s3.delete_object(Bucket="walk", Key="absent")
keys = [o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(Bucket="walk") for o in p["Contents"]]
r = s3.delete_objects(Bucket="walk", Delete={"Objects": [{"Key": k} for k in keys] + [{"Key": "absent"}]})
assert len(r["Deleted"]) == len(keys) + 1 and "Errors" not in r
s3.delete_bucket(Bucket="walk")
refused("404", s3.head_bucket, Bucket="walk")
print("boto3 ok")
