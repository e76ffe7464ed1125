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
            # One that the client sums and one that it leaves to the server.
            claim = {field: b64(of(piece))} if n == 1 and len(piece) < 1000 else {}
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
