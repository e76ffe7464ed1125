"""boto3 on buckets that keep versions: what S3 says of them, and nothing lost."""
import hashlib, os, threading
import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
B = "versions"


def fails(call, **kw):
    """The error of a call that must be refused: its code, its status, its headers."""
    try:
        call(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"], e.response["ResponseMetadata"]["HTTPHeaders"]
    raise AssertionError(f"{call.__name__}({kw}) was not refused")


def listed(**kw):
    """All versions and markers, in order: (key, id, latest)."""
    out, args = [], dict(kw)
    while True:
        r = s3.list_object_versions(Bucket=B, **args)
        both = [(v["Key"], v["VersionId"], v["IsLatest"]) for v in r.get("Versions", []) + r.get("DeleteMarkers", [])]
        out += both
        if not r["IsTruncated"]:
            return out
        args |= {"KeyMarker": r["NextKeyMarker"], "VersionIdMarker": r.get("NextVersionIdMarker", "")}


s3.create_bucket(Bucket=B)
r = s3.get_bucket_versioning(Bucket=B)
assert "Status" not in r and "MFADelete" not in r
r = s3.put_object(Bucket=B, Key="k", Body=b"null")
assert "VersionId" not in r
assert listed() == [("k", "null", True)]
assert fails(s3.get_object, Bucket=B, Key="k", VersionId="0" * 32)[:2] == ("NoSuchVersion", 404)
assert fails(s3.get_object, Bucket=B, Key="k", VersionId="nonsense")[:2] == ("InvalidArgument", 400)
assert fails(s3.put_bucket_versioning, Bucket=B, VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"})[:2] == ("AccessDenied", 403)
assert fails(s3.put_bucket_versioning, Bucket=B, VersioningConfiguration={})[0] == "IllegalVersioningConfigurationException"
assert fails(s3.put_bucket_versioning, Bucket=B, VersioningConfiguration={"Status": "On"})[0] == "MalformedXML"
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
assert s3.get_bucket_versioning(Bucket=B)["Status"] == "Enabled"

# Writes make versions; each is read by its id.
ids = ["null"]
for n in range(3):
    ids.append(s3.put_object(Bucket=B, Key="k", Body=b"%d" % n, Metadata={"n": str(n)})["VersionId"])
assert len(set(ids)) == 4
r = s3.get_object(Bucket=B, Key="k")
assert r["VersionId"] == ids[3] and r["Body"].read() == b"2"
for i, body in zip(ids, [b"null", b"0", b"1", b"2"]):
    r = s3.get_object(Bucket=B, Key="k", VersionId=i)
    assert r["Body"].read() == body and r["VersionId"] == i
    assert s3.head_object(Bucket=B, Key="k", VersionId=i)["ContentLength"] == len(body)
assert s3.get_object(Bucket=B, Key="k", VersionId=ids[1], Range="bytes=0-0")["VersionId"] == ids[1]
assert listed() == [("k", i, i == ids[3]) for i in reversed(ids)]
v = s3.list_object_versions(Bucket=B)["Versions"][0]
assert v["ETag"] == '"%s"' % hashlib.md5(b"2").hexdigest() and v["Size"] == 1 and v["Owner"]["ID"] == "p" and v["StorageClass"] == "STANDARD"

# Conditions are about the latest.
assert fails(s3.put_object, Bucket=B, Key="k", Body=b"x", IfNoneMatch="*")[:2] == ("PreconditionFailed", 412)
ids.append(s3.put_object(Bucket=B, Key="k", Body=b"3", IfMatch=v["ETag"])["VersionId"])
assert fails(s3.put_object, Bucket=B, Key="k", Body=b"x", IfMatch=v["ETag"])[:2] == ("PreconditionFailed", 412)

# A delete marker.
r = s3.delete_object(Bucket=B, Key="k")
marker = r["VersionId"]
assert r["DeleteMarker"] is True and marker not in ids
code, status, headers = fails(s3.get_object, Bucket=B, Key="k")
assert (code, status) == ("NoSuchKey", 404) and headers["x-amz-delete-marker"] == "true" and headers["x-amz-version-id"] == marker
code, status, headers = fails(s3.head_object, Bucket=B, Key="k")
assert status == 404 and headers["x-amz-delete-marker"] == "true" and headers["x-amz-version-id"] == marker
code, status, headers = fails(s3.get_object, Bucket=B, Key="k", VersionId=marker)
assert (code, status) == ("MethodNotAllowed", 405) and headers["x-amz-delete-marker"] == "true" and headers["allow"] == "DELETE"
assert "last-modified" in headers
assert fails(s3.head_object, Bucket=B, Key="k", VersionId=marker)[1] == 405
assert fails(s3.get_object_tagging, Bucket=B, Key="k", VersionId=marker)[:2] == ("MethodNotAllowed", 405)
assert "Contents" not in s3.list_objects_v2(Bucket=B)
r = s3.list_object_versions(Bucket=B)
assert [(m["VersionId"], m["IsLatest"]) for m in r["DeleteMarkers"]] == [(marker, True)] and len(r["Versions"]) == 5
assert not any(x["IsLatest"] for x in r["Versions"])
# With a marker as the latest, there is no object.
again = s3.put_object(Bucket=B, Key="k", Body=b"again", IfNoneMatch="*")["VersionId"]
r = s3.delete_object(Bucket=B, Key="k", VersionId=again)
assert r["VersionId"] == again and "DeleteMarker" not in r
assert fails(s3.get_object, Bucket=B, Key="k")[2]["x-amz-version-id"] == marker
# The marker goes: the object is back.
r = s3.delete_object(Bucket=B, Key="k", VersionId=marker)
assert r["DeleteMarker"] is True and r["VersionId"] == marker
assert s3.get_object(Bucket=B, Key="k")["VersionId"] == ids[4]
# The latest goes, and one that is not there.
s3.delete_object(Bucket=B, Key="k", VersionId=ids[4])
r = s3.get_object(Bucket=B, Key="k")
assert r["VersionId"] == ids[3] and r["Body"].read() == b"2" and r["Metadata"] == {"n": "2"}
assert s3.delete_object(Bucket=B, Key="k", VersionId=ids[4])["VersionId"] == ids[4]
assert s3.delete_object(Bucket=B, Key="never")["DeleteMarker"] is True
assert fails(s3.delete_object, Bucket=B, Key="k", VersionId="nonsense")[:2] == ("InvalidArgument", 400)

# Tags are a version's own.
s3.put_object_tagging(Bucket=B, Key="k", VersionId=ids[1], Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
r = s3.get_object_tagging(Bucket=B, Key="k", VersionId=ids[1])
assert r["TagSet"] == [{"Key": "a", "Value": "1"}] and r["VersionId"] == ids[1]
assert s3.get_object_tagging(Bucket=B, Key="k")["TagSet"] == []
assert s3.delete_object_tagging(Bucket=B, Key="k", VersionId=ids[1])["VersionId"] == ids[1]
assert s3.get_object_tagging(Bucket=B, Key="k", VersionId=ids[1])["TagSet"] == []

# Copies: of a version, onto itself as what brings it back, into a part.
r = s3.copy_object(Bucket=B, Key="copy", CopySource={"Bucket": B, "Key": "k", "VersionId": ids[1]})
assert r["CopySourceVersionId"] == ids[1] and s3.get_object(Bucket=B, Key="copy", VersionId=r["VersionId"])["Body"].read() == b"0"
r = s3.copy_object(Bucket=B, Key="k", CopySource={"Bucket": B, "Key": "k", "VersionId": ids[1]})
assert s3.get_object(Bucket=B, Key="k")["VersionId"] == r["VersionId"] not in ids
m = s3.delete_object(Bucket=B, Key="copy")["VersionId"]
assert fails(s3.copy_object, Bucket=B, Key="x", CopySource={"Bucket": B, "Key": "copy"})[:2] == ("NoSuchKey", 404)
assert fails(s3.copy_object, Bucket=B, Key="x", CopySource={"Bucket": B, "Key": "copy", "VersionId": m})[:2] == ("InvalidRequest", 400)
up = s3.create_multipart_upload(Bucket=B, Key="k")["UploadId"]
p1 = s3.upload_part(Bucket=B, Key="k", UploadId=up, PartNumber=1, Body=b"x" * (5 << 20))
p2 = s3.upload_part_copy(Bucket=B, Key="k", UploadId=up, PartNumber=2, CopySource={"Bucket": B, "Key": "k", "VersionId": ids[2]})
assert p2["CopySourceVersionId"] == ids[2]
r = s3.complete_multipart_upload(Bucket=B, Key="k", UploadId=up, MultipartUpload={"Parts": [
    {"PartNumber": 1, "ETag": p1["ETag"]}, {"PartNumber": 2, "ETag": p2["CopyPartResult"]["ETag"]}]})
big = r["VersionId"]
s3.put_object(Bucket=B, Key="k", Body=b"after")
r = s3.get_object(Bucket=B, Key="k", VersionId=big)
assert r["ContentLength"] == (5 << 20) + 1 and r["Body"].read()[-1:] == b"1"
a = s3.get_object_attributes(Bucket=B, Key="k", VersionId=big, ObjectAttributes=["ObjectSize", "ETag"])
assert a["ObjectSize"] == (5 << 20) + 1 and a["VersionId"] == big

# Paging, prefixes, delimiters.
for key in ("d/1", "d/2", "e", "odd\u0001key ü"):
    for n in range(3):
        s3.put_object(Bucket=B, Key=key, Body=b"%d" % n)
s3.delete_object(Bucket=B, Key="d/2")
whole = s3.list_object_versions(Bucket=B)
total = len(whole["Versions"]) + len(whole["DeleteMarkers"])
for page in (1, 2, 3, 7):
    got = listed(MaxKeys=page)
    assert len(got) == total == len(set(got)), (page, len(got), total)
assert [k for k, _, latest in listed(Prefix="d/") if latest] == ["d/1", "d/2"]
r = s3.list_object_versions(Bucket=B, Delimiter="/")
assert [p["Prefix"] for p in r["CommonPrefixes"]] == ["d/"] and not any(x["Key"].startswith("d/") for x in r["Versions"])
r = s3.list_object_versions(Bucket=B, Delimiter="/", MaxKeys=1, KeyMarker="copy")
assert [p["Prefix"] for p in r["CommonPrefixes"]] == ["d/"] and r["IsTruncated"] and r["NextKeyMarker"] == "d/"
assert s3.list_object_versions(Bucket=B, Delimiter="/", MaxKeys=1, KeyMarker="d/")["Versions"][0]["Key"] == "e"
r = s3.list_object_versions(Bucket=B, Prefix="odd", EncodingType="url")
assert r["Versions"][0]["Key"] == "odd%01key%20%C3%BC", r["Versions"][0]["Key"]
assert fails(s3.list_object_versions, Bucket=B, VersionIdMarker=big)[0] == "InvalidArgument"
assert s3.list_object_versions(Bucket=B, MaxKeys=0).get("Versions", []) == []

# Suspended: one null version, whatever is written; the others stay.
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Suspended"})
before = [x for x in listed(Prefix="e") if x[0] == "e"]
for n in range(2):
    assert s3.put_object(Bucket=B, Key="e", Body=b"s%d" % n)["VersionId"] == "null"
after = listed(Prefix="e")
assert after == [("e", "null", True)] + [(k, i, False) for k, i, _ in before]
r = s3.delete_object(Bucket=B, Key="e")
assert r["VersionId"] == "null" and r["DeleteMarker"] is True
assert sorted(listed(Prefix="e")) == sorted(after)  # the marker took the null version's place
assert s3.list_object_versions(Bucket=B, Prefix="e")["DeleteMarkers"][0]["IsLatest"]
assert s3.get_object(Bucket=B, Key="e", VersionId=before[0][1])["Body"].read() == b"2"
s3.delete_object(Bucket=B, Key="e", VersionId="null")
assert s3.get_object(Bucket=B, Key="e")["VersionId"] == before[0][1]

# Many at once, by version and by name.
assert fails(s3.delete_bucket, Bucket=B)[:2] == ("BucketNotEmpty", 409)
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
r = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "e"}, {"Key": "d/1", "VersionId": listed(Prefix="d/1")[0][1]}, {"Key": "absent", "VersionId": "0" * 32}]})
e = next(d for d in r["Deleted"] if d["Key"] == "e")
assert e["DeleteMarker"] is True and e["DeleteMarkerVersionId"] and "VersionId" not in e
d = next(d for d in r["Deleted"] if d["Key"] == "d/1")
assert d["VersionId"] and "DeleteMarker" not in d
r = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "e", "VersionId": e["DeleteMarkerVersionId"]}, {"Key": "e", "VersionId": "bogus"}]})
assert [(x["Code"], x["VersionId"]) for x in r["Errors"]] == [("NoSuchVersion", "bogus")], r
assert r["Deleted"][0]["DeleteMarkerVersionId"] == e["DeleteMarkerVersionId"] == r["Deleted"][0]["VersionId"]

# Versions go from the front, the end and the middle: the others stay as they were, in their order.
for start, step in ((-1, 0), (0, 0), (1, 0), (4, -1), (3, 3)):
    there = [(s3.put_object(Bucket=B, Key="m", Body=b"%d" % n)["VersionId"], b"%d" % n) for n in range(5)]
    while there:
        gone, body = there.pop(start % len(there))
        assert s3.get_object(Bucket=B, Key="m", VersionId=gone)["Body"].read() == body
        s3.delete_object(Bucket=B, Key="m", VersionId=gone)
        start += step
        assert listed(Prefix="m") == [("m", i, n == 0) for n, (i, _) in enumerate(reversed(there))]
        assert all(s3.get_object(Bucket=B, Key="m", VersionId=i)["Body"].read() == b for i, b in there)
        if there:
            assert s3.get_object(Bucket=B, Key="m")["VersionId"] == there[-1][0]
# Markers heap up, one for each deletion.
one = s3.put_object(Bucket=B, Key="m", Body=b"1")["VersionId"]
markers = [s3.delete_object(Bucket=B, Key="m")["VersionId"] for _ in range(3)]
found = s3.list_object_versions(Bucket=B, Prefix="m")
assert [(m["VersionId"], m["IsLatest"]) for m in found["DeleteMarkers"]] == list(zip(reversed(markers), [True, False, False]))
for i in (markers[1], markers[2], markers[0]):
    s3.delete_object(Bucket=B, Key="m", VersionId=i)
assert s3.get_object(Bucket=B, Key="m")["VersionId"] == one
s3.delete_object(Bucket=B, Key="m", VersionId=one)


def at_once(calls):
    threads = [threading.Thread(target=call, kwargs={"Bucket": B, "Key": "m", **kw}) for call, kw in calls]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


for _ in range(4):
    at_once([(s3.put_object, {"Body": b"%d" % n}) for n in range(5)])
    there = listed(Prefix="m")
    assert len(there) == 5 and [latest for _, _, latest in there] == [True, False, False, False, False], there
    at_once([(s3.delete_object, {"VersionId": i}) for _, i, _ in there] + [(s3.put_object, {"Body": b"new"})])
    (_, new, latest), = listed(Prefix="m")
    assert latest and s3.get_object(Bucket=B, Key="m")["VersionId"] == new
    s3.delete_object(Bucket=B, Key="m", VersionId=new)
    assert listed(Prefix="m") == [] and fails(s3.get_object, Bucket=B, Key="m")[:2] == ("NoSuchKey", 404)

while left := listed():
    r = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": k, "VersionId": i} for k, i, _ in left]})
    assert "Errors" not in r and len(r["Deleted"]) == len(left), r
s3.delete_bucket(Bucket=B)
print("versions ok")
