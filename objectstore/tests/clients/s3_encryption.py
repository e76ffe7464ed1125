"""Server-side encryption through the S3 door: with the store's keys and with the client's, in one piece, in parts, by ranges, copied."""
import base64, hashlib, http.client, os, urllib.parse, boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
swift = urllib.parse.urlparse(os.environ["SWIFT_URL"])
B = {"Bucket": "sealed"}
s3.create_bucket(**B)


def code(f, **kw):
    try:
        f(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"]


def swift_get(path):
    c = http.client.HTTPConnection(swift.netloc, timeout=30)
    c.request("GET", swift.path + path, headers={"X-Auth-Token": "p:member"})
    r = c.getresponse()
    return r.status, r.read()


def ranges(get, data):
    n = len(data)
    for a, b in ((0, 0), (0, 65535), (65535, 65536), (65536, 131071), (100, n - 1), (n - 1, n - 1), (n // 2, n // 2 + 300_000)):
        if 0 <= a < n and a <= b:
            got = get(Range=f"bytes={a}-{b}")
            assert got["Body"].read() == data[a:b + 1] and got["ContentRange"].endswith(f"/{n}"), (n, a, b)


# with the store's keys
sizes = [0, 1, 65535, 65536, 65537, 200_000, 4 << 20, (4 << 20) + 1, 9_000_000]
for n in sizes:
    data, key = os.urandom(n), f"root-{n}"
    r = s3.put_object(**B, Key=key, Body=data, ServerSideEncryption="AES256")
    assert r["ServerSideEncryption"] == "AES256" and r["ETag"] == '"%s"' % hashlib.md5(data).hexdigest()
    r = s3.get_object(**B, Key=key)
    assert r["Body"].read() == data and r["ContentLength"] == n and r["ServerSideEncryption"] == "AES256", n
    assert s3.head_object(**B, Key=key)["ContentLength"] == n
    ranges(lambda **k: s3.get_object(**B, Key=key, **k), data)
    assert swift_get("/sealed/" + key) == (200, data)
listed = {o["Key"]: o["Size"] for o in s3.list_objects_v2(**B)["Contents"]}
assert listed == {f"root-{n}": n for n in sizes}, listed
assert code(s3.put_object, **B, Key="x", Body=b"", ServerSideEncryption="aws:kms") == "NotImplemented"

# with the client's
mine, other = dict(SSECustomerAlgorithm="AES256", SSECustomerKey=b"k" * 32), dict(SSECustomerAlgorithm="AES256", SSECustomerKey=b"o" * 32)
data = os.urandom(5_000_000)
r = s3.put_object(**B, Key="mine", Body=data, **mine)
assert r["SSECustomerAlgorithm"] == "AES256" and r["SSECustomerKeyMD5"] == base64.b64encode(hashlib.md5(b"k" * 32).digest()).decode()
r = s3.get_object(**B, Key="mine", **mine)
assert r["Body"].read() == data and "ServerSideEncryption" not in r and r["SSECustomerAlgorithm"] == "AES256"
ranges(lambda **k: s3.get_object(**B, Key="mine", **mine, **k), data)
assert code(s3.get_object, **B, Key="mine") == "InvalidRequest" and code(s3.head_object, **B, Key="mine") == "400"
assert code(s3.get_object, **B, Key="mine", **other) == "AccessDenied" and code(s3.get_object, **B, Key="root-1", **mine) == "InvalidRequest"
assert swift_get("/sealed/mine")[0] == 403
bad = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": base64.b64encode(b"k" * 32).decode(), "SSECustomerKeyMD5": base64.b64encode(b"0" * 16).decode()}
assert code(s3.put_object, **B, Key="x", Body=b"", **bad) == "InvalidArgument"
assert code(s3.put_object, **B, Key="x", Body=b"", **{**mine, "SSECustomerAlgorithm": "AES128"}) == "InvalidEncryptionAlgorithmError"
assert code(s3.put_object, **B, Key="x", Body=b"", **{**mine, "SSECustomerKey": b"short"}) == "InvalidArgument"
assert code(s3.put_object, **B, Key="x", Body=b"", ServerSideEncryption="AES256", **mine) == "InvalidArgument"
attributes = s3.get_object_attributes(**B, Key="mine", ObjectAttributes=["ETag", "ObjectSize"],
                                      SSECustomerAlgorithm="AES256", SSECustomerKey=base64.b64encode(b"k" * 32).decode(), SSECustomerKeyMD5=r["SSECustomerKeyMD5"])
assert attributes["ObjectSize"] == len(data)

assert code(s3.get_object_attributes, **B, Key="root-1", ObjectAttributes=["Colour"]) == "InvalidArgument"
u = {"Key": "summed", "UploadId": s3.create_multipart_upload(**B, Key="summed", ChecksumAlgorithm="SHA256")["UploadId"]}
done = [{k: v for k, v in s3.upload_part(**B, **u, PartNumber=n, Body=b"x" * (5 << 20), ChecksumAlgorithm="SHA256").items() if k in ("ETag", "ChecksumSHA256")} | {"PartNumber": n} for n in (2, 5)]
s3.complete_multipart_upload(**B, **u, MultipartUpload={"Parts": done})
attributes = s3.get_object_attributes(**B, Key="summed", ObjectAttributes=["ObjectParts", "Checksum"], MaxParts=1)
parts = attributes["ObjectParts"]
assert parts["TotalPartsCount"] == 2 and parts["IsTruncated"] and parts["NextPartNumberMarker"] == 2 and attributes["Checksum"]["ChecksumSHA256"]
assert parts["Parts"] == [{"PartNumber": 2, "Size": 5 << 20, "ChecksumSHA256": done[0]["ChecksumSHA256"]}], parts
parts = s3.get_object_attributes(**B, Key="summed", ObjectAttributes=["ObjectParts"], PartNumberMarker=2)["ObjectParts"]
assert not parts["IsTruncated"] and [p["PartNumber"] for p in parts["Parts"]] == [5]

# copies, from one key to another
source = {"CopySource": "sealed/mine", "CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": b"k" * 32}
assert code(s3.copy_object, **B, Key="c", CopySource="sealed/mine") == "InvalidRequest"
assert s3.copy_object(**B, Key="c", ServerSideEncryption="AES256", **source)["ServerSideEncryption"] == "AES256"
assert s3.get_object(**B, Key="c")["Body"].read() == data
s3.copy_object(**B, Key="mine", **source, **other)
assert s3.get_object(**B, Key="mine", **other)["Body"].read() == data and code(s3.get_object, **B, Key="mine", **mine) == "AccessDenied"
s3.copy_object(**B, Key="plain", CopySource="sealed/c")
assert "ServerSideEncryption" not in s3.head_object(**B, Key="plain")

# parts
for how, read in (({"ServerSideEncryption": "AES256"}, {}), (mine, mine)):
    parts = [os.urandom(5 << 20), os.urandom(5 << 20), os.urandom(70_001)]
    u = s3.create_multipart_upload(**B, Key="parts", **how)
    assert u.get("ServerSideEncryption") or u["SSECustomerAlgorithm"]
    u = {"Key": "parts", "UploadId": u["UploadId"]}
    if read:
        assert code(s3.upload_part, **B, **u, PartNumber=1, Body=b"1") == "InvalidRequest" and code(s3.upload_part, **B, **u, PartNumber=1, Body=b"1", **other) == "InvalidRequest"
    s3.upload_part(**B, **u, PartNumber=1, Body=b"replaced", **read)
    done = [{"PartNumber": i + 1, "ETag": s3.upload_part(**B, **u, PartNumber=i + 1, Body=p, **read)["ETag"]} for i, p in enumerate(parts[:2])]
    s3.put_object(**B, Key="third", Body=parts[2])
    copied = s3.upload_part_copy(**B, **u, PartNumber=3, CopySource="sealed/third", **read)
    assert (copied.get("SSECustomerAlgorithm"), copied.get("ServerSideEncryption")) == (("AES256", None) if read else (None, "AES256"))
    done.append({"PartNumber": 3, "ETag": copied["CopyPartResult"]["ETag"]})
    r = s3.complete_multipart_upload(**B, **u, MultipartUpload={"Parts": done})
    assert read or r["ServerSideEncryption"] == "AES256"
    data = b"".join(parts)
    r = s3.get_object(**B, Key="parts", **read)
    assert r["Body"].read() == data and r["ContentLength"] == len(data)
    ranges(lambda **k: s3.get_object(**B, Key="parts", **read, **k), data)
    assert s3.get_object(**B, Key="parts", **read, PartNumber=2)["Body"].read() == parts[1]
    edge = 5 << 20
    assert s3.get_object(**B, Key="parts", **read, Range=f"bytes={edge - 3}-{2 * edge + 2}")["Body"].read() == data[edge - 3:2 * edge + 3]

# a bucket that encrypts what says nothing
assert code(s3.get_bucket_encryption, **B) == "ServerSideEncryptionConfigurationNotFoundError"
rule = lambda a: {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": a}}]}
assert code(s3.put_bucket_encryption, **B, ServerSideEncryptionConfiguration=rule("aws:kms")) == "NotImplemented"
s3.put_bucket_encryption(**B, ServerSideEncryptionConfiguration=rule("AES256"))
assert s3.get_bucket_encryption(**B)["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
assert s3.put_object(**B, Key="default", Body=b"d")["ServerSideEncryption"] == "AES256" and s3.get_object(**B, Key="default")["Body"].read() == b"d"
s3.delete_bucket_encryption(**B)
assert "ServerSideEncryption" not in s3.put_object(**B, Key="default", Body=b"d")
# versions keep their own
s3.put_bucket_versioning(**B, VersioningConfiguration={"Status": "Enabled"})
one = s3.put_object(**B, Key="v", Body=b"1" * 100_000, ServerSideEncryption="AES256")["VersionId"]
s3.put_object(**B, Key="v", Body=b"2")
assert s3.get_object(**B, Key="v", VersionId=one)["Body"].read() == b"1" * 100_000
print("s3 encryption ok")
