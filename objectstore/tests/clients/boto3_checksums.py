"""boto3 on checksums and conditions: every algorithm, sums of parts and of wholes, what is claimed and is not so; and writes
and deletions that are to happen only if the object is what the client thinks."""
import base64, datetime, hashlib, os, zlib
import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1},
                                      request_checksum_calculation="when_required", response_checksum_validation="when_required"))
B = "sums"
s3.create_bucket(Bucket=B)


def code(call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"]


def fails(call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"], e.response["Error"]["Message"]


def crc(poly, width):
    def of(data):
        c = (1 << width) - 1
        for b in data:
            c ^= b
            for _ in range(8):
                c = c >> 1 ^ (poly if c & 1 else 0)
        return (c ^ (1 << width) - 1).to_bytes(width // 8, "big")
    return of


OF = {"CRC32": lambda d: zlib.crc32(d).to_bytes(4, "big"), "CRC32C": crc(0x82F63B78, 32), "CRC64NVME": crc(0x9A6C9329AC4BC9B5, 64),
      "SHA1": lambda d: hashlib.sha1(d).digest(), "SHA256": lambda d: hashlib.sha256(d).digest()}
b64 = lambda b: base64.b64encode(b).decode()
assert OF["CRC32"](b"123456789") == crc(0xEDB88320, 32)(b"123456789")
data = b"The quick brown fox" * 10
for name, of in OF.items():
    field = f"Checksum{name}"
    assert s3.put_object(Bucket=B, Key=name, Body=data, **{field: b64(of(data))})[field] == b64(of(data))
    head = s3.head_object(Bucket=B, Key=name, ChecksumMode="ENABLED")
    assert head[field] == b64(of(data)) and head["ChecksumType"] == "FULL_OBJECT", head
    assert code(s3.put_object, Bucket=B, Key="bad", Body=data, **{field: b64(of(b"else"))}) == "BadDigest", name
    assert code(s3.put_object, Bucket=B, Key="bad", Body=data, **{field: "AAA="}) == "InvalidRequest", name
    # Parts: a sum of sums, or for CRCs the sum of the whole.
    for kind in ["COMPOSITE", "FULL_OBJECT"]:
        begin = dict(Bucket=B, Key="parts", ChecksumAlgorithm=name, ChecksumType=kind)
        if (kind == "FULL_OBJECT") == name.startswith("SHA") or (name == "CRC64NVME" and kind == "COMPOSITE"):
            if name.startswith("SHA") or name == "CRC64NVME":
                assert code(s3.create_multipart_upload, **begin) == "InvalidRequest", begin
                continue
        up = dict(Bucket=B, Key="parts", UploadId=s3.create_multipart_upload(**begin)["UploadId"])
        pieces = [b"a" * (5 << 20), b"the end"] if name == "CRC32" else [b"the only one"]
        other = "CRC32" if name != "CRC32" else "SHA1"
        assert code(s3.upload_part, **up, PartNumber=1, Body=b"x", **{f"Checksum{other}": b64(OF[other](b"x"))}) == "InvalidRequest"
        parts = []
        for n, piece in enumerate(pieces, 1):
            # A sum of the whole may be left to the server.
            claim = {field: b64(of(piece))} if kind == "COMPOSITE" else {}
            r = s3.upload_part(**up, PartNumber=n, Body=piece, **claim)
            parts.append({"PartNumber": n, "ETag": r["ETag"], field: r[field]})
        page = s3.list_parts(**up)
        assert page["ChecksumAlgorithm"] == name and page["ChecksumType"] == kind
        sums = [base64.b64decode(p[field]) for p in parts]
        want = b64(of(b"".join(pieces))) if kind == "FULL_OBJECT" and len(pieces) == 1 else (
            b64(zlib.crc32(b"".join(pieces)).to_bytes(4, "big")) if kind == "FULL_OBJECT" else f"{b64(of(b''.join(sums)))}-{len(parts)}")
        done = dict(**up, MultipartUpload={"Parts": parts})
        wrong = [{**p, field: b64(of(b"wrong"))} for p in parts]
        assert code(s3.complete_multipart_upload, **up, MultipartUpload={"Parts": wrong}) == "InvalidPart"
        assert code(s3.complete_multipart_upload, **done, **{field: b64(of(b"wrong"))}) == "BadDigest"
        assert code(s3.complete_multipart_upload, **done, MpuObjectSize=1) == "InvalidRequest"
        r = s3.complete_multipart_upload(**done, **{field: want}, MpuObjectSize=sum(map(len, pieces)))
        assert r[field] == want and r["ChecksumType"] == kind, (r, want)
        head = s3.head_object(Bucket=B, Key="parts", ChecksumMode="ENABLED")
        assert head[field] == want and head["ChecksumType"] == kind

# A sum of sums takes what the client says of every part, as it sends them and as it completes them.
begin = lambda **kw: dict(Bucket=B, Key="composite", UploadId=s3.create_multipart_upload(Bucket=B, Key="composite", **kw)["UploadId"])
up, pieces = begin(ChecksumAlgorithm="SHA256"), [b"a" * (5 << 20), b"the end"]
assert fails(s3.upload_part, **up, PartNumber=1, Body=b"x") == (
    "InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: null")
sums = [b64(hashlib.sha256(p).digest()) for p in pieces]
parts = [{"PartNumber": n, "ETag": s3.upload_part(**up, PartNumber=n, Body=p, ChecksumSHA256=c)["ETag"], "ChecksumSHA256": c}
         for n, p, c in zip((1, 2), pieces, sums)]
whole = b64(hashlib.sha256(b"".join(map(base64.b64decode, sums))).digest())
finish = lambda second={}, up=up, **kw: dict(**up, MultipartUpload={"Parts": [parts[0], {**parts[1], **second}]}, **kw)
plain = {k: parts[1][k] for k in ("PartNumber", "ETag")}
assert fails(s3.complete_multipart_upload, **up, MultipartUpload={"Parts": [parts[0], plain]}) == (
    "InvalidRequest", "The upload was created using a sha256 checksum. The complete request must include the checksum for each part. "
    "It was missing for part 2 in the request.")
assert code(s3.complete_multipart_upload, **up, MultipartUpload={"Parts": [parts[0], {**plain, "ChecksumCRC32": "AAAAAA=="}]}) == "BadDigest"
for bad in [{"ChecksumSHA256": "AAAA"}, {"ChecksumCRC32": "AAAAAA=="}]:
    assert fails(s3.complete_multipart_upload, **finish(bad)) == ("InvalidArgument", "Invalid Base64 or multiple checksums present in request")
for said, why in [(f"{whole}-3", "BadDigest"), (f"{whole}-a", "InvalidRequest"), (sums[0], "BadDigest")]:
    assert code(s3.complete_multipart_upload, **finish(ChecksumSHA256=said)) == why, said
assert code(s3.complete_multipart_upload, **finish(ChecksumType="FULL_OBJECT")) == "BadDigest"
assert code(s3.complete_multipart_upload, **finish(ChecksumType="HALF")) == "InvalidRequest"
r = s3.complete_multipart_upload(**finish(ChecksumSHA256=whole, ChecksumType="COMPOSITE"))
assert (r["ChecksumSHA256"], r["ChecksumType"]) == (f"{whole}-2", "COMPOSITE")
# Its attributes say apart how many parts there are, and tell them page by page.
attributes = lambda **kw: s3.get_object_attributes(Bucket=B, Key="composite", ObjectAttributes=["Checksum", "ObjectParts"], **kw)
assert attributes()["Checksum"] == {"ChecksumSHA256": whole, "ChecksumType": "COMPOSITE"}
row = lambda n: {"PartNumber": n, "Size": len(pieces[n - 1]), "ChecksumSHA256": sums[n - 1]}
page = lambda marker, following, most, more, *numbers: {"TotalPartsCount": 2, "PartNumberMarker": marker, "NextPartNumberMarker": following,
    "MaxParts": most, "IsTruncated": more, **({"Parts": [row(n) for n in numbers]} if numbers else {})}
assert attributes()["ObjectParts"] == page(0, 2, 1000, False, 1, 2)
assert attributes(MaxParts=1)["ObjectParts"] == page(0, 1, 1, True, 1)
assert attributes(MaxParts=5000, PartNumberMarker=1)["ObjectParts"] == page(1, 2, 1000, False, 2)
assert attributes(PartNumberMarker=2)["ObjectParts"] == page(2, 0, 1000, False)
assert attributes(MaxParts=0)["ObjectParts"] == page(0, 0, 0, True)
assert "ObjectParts" not in s3.get_object_attributes(Bucket=B, Key="CRC32", ObjectAttributes=["Checksum", "ObjectParts"])
# Listings tell which checksum there is.
other = begin(ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
assert [(u["ChecksumAlgorithm"], u["ChecksumType"]) for u in s3.list_multipart_uploads(Bucket=B, Prefix="composite")["Uploads"]] == [("CRC32", "FULL_OBJECT")]
s3.abort_multipart_upload(**other)
begin()
assert "ChecksumType" not in s3.list_multipart_uploads(Bucket=B, Prefix="composite")["Uploads"][0]
for rows in (s3.list_objects(Bucket=B)["Contents"], s3.list_objects_v2(Bucket=B)["Contents"], s3.list_object_versions(Bucket=B)["Versions"]):
    kinds = {o["Key"]: (o["ChecksumAlgorithm"], o["ChecksumType"]) for o in rows}
    assert kinds["composite"] == (["SHA256"], "COMPOSITE") and kinds["SHA1"] == (["SHA1"], "FULL_OBJECT"), kinds
refusal = lambda kind: fails(s3.create_multipart_upload, Bucket=B, Key="composite", ChecksumType=kind)
assert refusal("FULL_OBJECT")[1] == "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
assert refusal("HALF")[1] == "Value for x-amz-checksum-type header is invalid."
# Of a part its own is told, of all content that of the object, of less none.
last = len(pieces[0]) + len(pieces[1]) - 1
for call in (s3.get_object, s3.head_object):
    told = lambda key="composite", **kw: (lambda r: (r.get("ChecksumSHA256", r.get("ChecksumCRC64NVME")), r.get("ChecksumType")))(call(Bucket=B, Key=key, **kw))
    on = dict(ChecksumMode="ENABLED")
    assert told(**on) == told(**on, Range=f"bytes=0-{last}") == (f"{whole}-2", "COMPOSITE")
    assert told(**on, PartNumber=2) == (sums[1], "COMPOSITE")
    assert told(PartNumber=2) == told() == told(**on, Range=f"bytes=1-{last}") == (None, None)
    s3.put_object(Bucket=B, Key="single", Body=data)
    assert told("single", **on, PartNumber=1) == (b64(OF["CRC64NVME"](data)), "FULL_OBJECT")
    assert code(call, Bucket=B, Key="single", ChecksumMode="DISABLED") in ("InvalidRequest", "400")

# Conditions.
etag = s3.put_object(Bucket=B, Key="c", Body=b"12345")["ETag"]
assert code(s3.put_object, Bucket=B, Key="c", Body=b"", IfNoneMatch="*") == "PreconditionFailed"
assert code(s3.put_object, Bucket=B, Key="c", Body=b"", IfMatch='"else"') == "PreconditionFailed"
assert code(s3.put_object, Bucket=B, Key="none", Body=b"", IfMatch=etag) == "NoSuchKey"
s3.put_object(Bucket=B, Key="c", Body=b"12345", IfMatch=etag)
at = s3.head_object(Bucket=B, Key="c")["LastModified"]
assert code(s3.delete_object, Bucket=B, Key="c", IfMatch='"else"') == "PreconditionFailed"
assert code(s3.delete_object, Bucket=B, Key="c", IfMatchSize=4) == "PreconditionFailed"
assert code(s3.delete_object, Bucket=B, Key="c", IfMatchLastModifiedTime=at + datetime.timedelta(days=1)) == "PreconditionFailed"
assert code(s3.delete_object, Bucket=B, Key="c", IfMatch=etag, IfMatchSize=4) == "PreconditionFailed"
s3.delete_object(Bucket=B, Key="c", IfMatch=etag, IfMatchSize=5, IfMatchLastModifiedTime=at)
assert code(s3.head_object, Bucket=B, Key="c") == "404"
for n in range(3):
    s3.put_object(Bucket=B, Key=f"d{n}", Body=b"x" * n)
r = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "d0", "Size": 9}, {"Key": "d1", "Size": 1}, {"Key": "d2", "ETag": '"else"'}]})
assert [d["Key"] for d in r["Deleted"]] == ["d1"] and {e["Key"]: e["Code"] for e in r["Errors"]} == {"d0": "PreconditionFailed", "d2": "PreconditionFailed"}

# Without a word of the client an object has CRC64NVME: written at once, copied, or from parts that all have it.
nvme = lambda key: s3.head_object(Bucket=B, Key=key, ChecksumMode="ENABLED").get("ChecksumCRC64NVME")
assert s3.put_object(Bucket=B, Key="plain", Body=data)["ChecksumCRC64NVME"] == nvme("plain") == b64(OF["CRC64NVME"](data))
assert s3.get_object_attributes(Bucket=B, Key="plain", ObjectAttributes=["Checksum"])["Checksum"] == {"ChecksumCRC64NVME": nvme("plain"), "ChecksumType": "FULL_OBJECT"}
assert s3.copy_object(Bucket=B, Key="copied", CopySource=f"{B}/plain")["CopyObjectResult"]["ChecksumCRC64NVME"] == nvme("plain")
up = dict(Bucket=B, Key="joined", UploadId=s3.create_multipart_upload(Bucket=B, Key="joined")["UploadId"])
first = s3.upload_part(**up, PartNumber=1, Body=b"a" * (5 << 20))
parts = [{"PartNumber": 1, "ETag": first["ETag"]}, {"PartNumber": 2, "ETag": s3.upload_part(**up, PartNumber=2, Body=data)["ETag"]}]
s3.put_object(Bucket=B, Key="at once", Body=b"a" * (5 << 20) + data)
assert s3.complete_multipart_upload(**up, MultipartUpload={"Parts": parts})["ChecksumCRC64NVME"] == nvme("at once") == nvme("joined")
assert "ChecksumType" not in s3.get_object(Bucket=B, Key="joined", PartNumber=1, ChecksumMode="ENABLED"), "it is over the content"
assert [p["Size"] for p in s3.get_object_attributes(Bucket=B, Key="joined", ObjectAttributes=["ObjectParts"])["ObjectParts"]["Parts"]] == [5 << 20, len(data)]
# Who did not hear of it may ask again, for the same parts.
assert s3.complete_multipart_upload(**up, MultipartUpload={"Parts": parts}, IfNoneMatch="*")["ETag"].endswith('-2"')
assert code(s3.complete_multipart_upload, **up, MultipartUpload={"Parts": parts[:1]}) == "NoSuchUpload"

# Conditions on what is not there, on ETags that are not to be, on versions, on delete markers.
etag = s3.put_object(Bucket=B, Key="n", Body=b"1", IfNoneMatch='"else"')["ETag"]
assert code(s3.put_object, Bucket=B, Key="n", Body=b"2", IfNoneMatch=etag) == "PreconditionFailed"
s3.put_object(Bucket=B, Key="n", Body=b"2", IfNoneMatch='"else"')
for how in [dict(IfMatch=etag), dict(IfMatch="*"), dict(IfMatchSize=7)]:
    assert code(s3.delete_object, Bucket=B, Key="absent", **how) is None, how
V = dict(Bucket="kept", Key="k")
s3.create_bucket(Bucket="kept")
s3.put_bucket_versioning(Bucket="kept", VersioningConfiguration={"Status": "Enabled"})
one, two = s3.put_object(**V, Body=b"1"), s3.put_object(**V, Body=b"22")
for v, size in [(one, 1), (two, 2)]:
    assert code(s3.delete_object, **V, VersionId=v["VersionId"], IfMatchSize=9) == "PreconditionFailed"
    assert code(s3.delete_object, **V, VersionId=v["VersionId"], IfMatch='"else"') == "PreconditionFailed"
s3.delete_object(**V, VersionId=one["VersionId"], IfMatch=one["ETag"], IfMatchSize=1)
assert code(s3.delete_object, **V, VersionId=one["VersionId"], IfMatch=one["ETag"]) is None, "it is gone"
assert s3.delete_object(**V, IfMatch=two["ETag"])["DeleteMarker"]
assert code(s3.delete_object, **V, IfMatch=two["ETag"]) == code(s3.delete_object, **V, IfMatchSize=2) == "PreconditionFailed", "a marker is like nothing"
assert code(s3.delete_object, **V, IfMatch="*") is None and len(s3.list_object_versions(Bucket="kept")["DeleteMarkers"]) == 1
print("checksums ok")
