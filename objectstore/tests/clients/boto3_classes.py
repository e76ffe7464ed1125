"""boto3 on storage classes: named on every way in, shown on every way out, moved by lifecycle rules (a day is one second
here); and on restoring, which only archives need."""
import time
import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
B = "classes"
s3.create_bucket(Bucket=B)


def code(call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"]


def listed():
    return {o["Key"]: o["StorageClass"] for o in s3.list_objects_v2(Bucket=B)["Contents"]}


body = b"0123456789" * 1000
assert s3.put_object(Bucket=B, Key="cold", Body=body, StorageClass="GLACIER")
s3.put_object(Bucket=B, Key="usual", Body=body)
s3.put_object(Bucket=B, Key="named", Body=body, StorageClass="STANDARD")
assert code(s3.put_object, Bucket=B, Key="no", Body=b"", StorageClass="DEEP_ARCHIVE") == "InvalidStorageClass"
s3.copy_object(Bucket=B, Key="copy", CopySource=f"{B}/usual", StorageClass="GLACIER")
# A copy is of the usual class, unless it says another.
s3.copy_object(Bucket=B, Key="back", CopySource=f"{B}/cold")
up = s3.create_multipart_upload(Bucket=B, Key="parts", StorageClass="GLACIER")["UploadId"]
assert s3.list_multipart_uploads(Bucket=B)["Uploads"][0]["StorageClass"] == "GLACIER"
big = b"x" * (5 << 20)
parts = [{"PartNumber": n, "ETag": s3.upload_part(Bucket=B, Key="parts", UploadId=up, PartNumber=n, Body=b)["ETag"]}
         for n, b in ((1, big), (2, b"end"))]
assert s3.list_parts(Bucket=B, Key="parts", UploadId=up)["StorageClass"] == "GLACIER"
s3.complete_multipart_upload(Bucket=B, Key="parts", UploadId=up, MultipartUpload={"Parts": parts})
assert listed() == {"back": "STANDARD", "cold": "GLACIER", "copy": "GLACIER", "named": "STANDARD", "parts": "GLACIER", "usual": "STANDARD"}
for key, cls in listed().items():
    head = s3.head_object(Bucket=B, Key=key)
    assert head.get("StorageClass", "STANDARD") == cls and ("StorageClass" in head) == (cls != "STANDARD"), head
    assert s3.get_object_attributes(Bucket=B, Key=key, ObjectAttributes=["StorageClass"])["StorageClass"] == cls
    got = s3.get_object(Bucket=B, Key=key)["Body"].read()
    assert got == (big + b"end" if key == "parts" else body), key
assert s3.get_object(Bucket=B, Key="cold", Range="bytes=11-12")["Body"].read() == b"12"
assert s3.get_object(Bucket=B, Key="parts", PartNumber=2)["Body"].read() == b"end"
# An object's class alone may be changed by copying it to itself.
s3.copy_object(Bucket=B, Key="usual", CopySource=f"{B}/usual", StorageClass="GLACIER", MetadataDirective="COPY")
assert listed()["usual"] == "GLACIER"
assert s3.get_object(Bucket=B, Key="usual")["Body"].read() == body

restore = {"Days": 1, "GlacierJobParameters": {"Tier": "Standard"}}
assert code(s3.restore_object, Bucket=B, Key="cold", RestoreRequest=restore) == "InvalidObjectState"
assert code(s3.restore_object, Bucket=B, Key="named", RestoreRequest=restore) == "InvalidObjectState"
assert code(s3.restore_object, Bucket=B, Key="none", RestoreRequest=restore) == "NoSuchKey"

# Moved by a rule, versions too.
V = "moved"
s3.create_bucket(Bucket=V)
s3.put_bucket_versioning(Bucket=V, VersioningConfiguration={"Status": "Enabled"})
etags = [s3.put_object(Bucket=V, Key="k", Body=body + b"%d" % n)["ETag"] for n in range(2)]
before = s3.head_object(Bucket=V, Key="k")
s3.put_object(Bucket=V, Key="small", Body=body)
rules = {"Bucket": V, "LifecycleConfiguration": {"Rules": [
    {"ID": "small", "Status": "Enabled", "Filter": {"Prefix": "small"}, "Transitions": [{"Days": 0, "StorageClass": "GLACIER"}]}]}}
assert s3.put_bucket_lifecycle_configuration(**rules)["TransitionDefaultMinimumObjectSize"] == "all_storage_classes_128K"
size = lambda: s3.get_bucket_lifecycle_configuration(Bucket=V)["TransitionDefaultMinimumObjectSize"]
assert size() == "all_storage_classes_128K"
assert code(s3.put_bucket_lifecycle_configuration, **rules, TransitionDefaultMinimumObjectSize="none") == "InvalidRequest"
time.sleep(3)
assert "StorageClass" not in s3.head_object(Bucket=V, Key="small"), "it is too small"
s3.delete_object(Bucket=V, Key="small", VersionId=s3.head_object(Bucket=V, Key="small")["VersionId"])
s3.put_bucket_lifecycle_configuration(Bucket=V, TransitionDefaultMinimumObjectSize="varies_by_storage_class", LifecycleConfiguration={"Rules": [
    {"ID": "go", "Status": "Enabled", "Filter": {}, "Transitions": [{"Days": 0, "StorageClass": "GLACIER"}],
     "NoncurrentVersionTransitions": [{"NoncurrentDays": 1, "StorageClass": "GLACIER"}]}]})
assert size() == "varies_by_storage_class"
end = time.monotonic() + 40
while True:
    versions = s3.list_object_versions(Bucket=V)["Versions"]
    if {v["StorageClass"] for v in versions} == {"GLACIER"}:
        break
    assert time.monotonic() < end, versions
    time.sleep(0.2)
assert [v["ETag"] for v in versions] == etags[::-1]
for n, v in enumerate(reversed(versions)):
    assert s3.get_object(Bucket=V, Key="k", VersionId=v["VersionId"])["Body"].read() == body + b"%d" % n
after = s3.head_object(Bucket=V, Key="k")
assert (after["LastModified"], after["VersionId"], after["StorageClass"]) == (before["LastModified"], before["VersionId"], "GLACIER")

# A bucket of another policy.
s3.create_bucket(Bucket="cold-bucket", CreateBucketConfiguration={"LocationConstraint": "RegionOne:silver"})
s3.put_object(Bucket="cold-bucket", Key="k", Body=body)
assert s3.head_object(Bucket="cold-bucket", Key="k")["StorageClass"] == "GLACIER"
s3.put_object(Bucket="cold-bucket", Key="w", Body=body, StorageClass="STANDARD")
assert "StorageClass" not in s3.head_object(Bucket="cold-bucket", Key="w")
assert s3.get_object(Bucket="cold-bucket", Key="w")["Body"].read() == body
assert code(s3.create_bucket, Bucket="none", CreateBucketConfiguration={"LocationConstraint": ":none"}) == "InvalidLocationConstraint"
print("classes ok")
