"""boto3 on object lock: what is kept is kept, by whatever way somebody tries to end it."""
import datetime, os, urllib.request, urllib.error
import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
B = "locked"
now = datetime.datetime.now(datetime.timezone.utc)
later = (now + datetime.timedelta(days=1)).replace(microsecond=0)


def fails(call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"]
    raise AssertionError(f"{call.__name__}({kw}) was not refused")


def swift(method, path, **headers):
    req = urllib.request.Request(os.environ["SWIFT_URL"] + path, method=method, headers={"X-Auth-Token": "p:member"} | {k.replace("_", "-"): v for k, v in headers.items()})
    try:
        return urllib.request.urlopen(req).status
    except urllib.error.HTTPError as e:
        return e.code


# A bucket without it.
s3.create_bucket(Bucket="plain")
assert fails(s3.get_object_lock_configuration, Bucket="plain") == ("ObjectLockConfigurationNotFoundError", 404)
enabled = {"ObjectLockEnabled": "Enabled"}
assert fails(s3.put_object_lock_configuration, Bucket="plain", ObjectLockConfiguration=enabled) == ("InvalidBucketState", 409)
s3.put_object(Bucket="plain", Key="k", Body=b"")
retention = {"Mode": "GOVERNANCE", "RetainUntilDate": later}
assert fails(s3.put_object_retention, Bucket="plain", Key="k", Retention=retention) == ("InvalidRequest", 400)
assert fails(s3.get_object_legal_hold, Bucket="plain", Key="k") == ("InvalidRequest", 400)
assert fails(s3.put_object, Bucket="plain", Key="k", Body=b"", ObjectLockLegalHoldStatus="ON") == ("InvalidRequest", 400)
s3.delete_object(Bucket="plain", Key="k")
s3.delete_bucket(Bucket="plain")

s3.create_bucket(Bucket=B, ObjectLockEnabledForBucket=True)
assert s3.get_bucket_versioning(Bucket=B)["Status"] == "Enabled"
assert s3.get_object_lock_configuration(Bucket=B)["ObjectLockConfiguration"] == enabled
assert fails(s3.put_bucket_versioning, Bucket=B, VersioningConfiguration={"Status": "Suspended"}) == ("InvalidBucketState", 409)
assert swift("POST", "/" + B, X_Versions_Enabled="false") in (400, 409)
rule = lambda **kw: {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": kw}}
put = lambda conf: fails(s3.put_object_lock_configuration, Bucket=B, ObjectLockConfiguration=conf)[0]
assert put(rule(Mode="GOVERNANCE", Days=0)) == "InvalidRetentionPeriod"
assert put(rule(Mode="GOVERNANCE", Days=1, Years=1)) == "MalformedXML"
assert put(rule(Mode="abc", Days=1)) == "MalformedXML"
assert put({"ObjectLockEnabled": "Disabled"}) == "MalformedXML"

# Legal hold.
v = s3.put_object(Bucket=B, Key="held", Body=b"kept")["VersionId"]
assert fails(s3.get_object_legal_hold, Bucket=B, Key="held") == ("NoSuchObjectLockConfiguration", 404)
s3.put_object_legal_hold(Bucket=B, Key="held", LegalHold={"Status": "ON"})
assert s3.get_object_legal_hold(Bucket=B, Key="held")["LegalHold"] == {"Status": "ON"}
assert fails(s3.put_object_legal_hold, Bucket=B, Key="held", LegalHold={"Status": "MAYBE"})[0] == "MalformedXML"
assert s3.head_object(Bucket=B, Key="held")["ObjectLockLegalHoldStatus"] == "ON"
assert fails(s3.delete_object, Bucket=B, Key="held", VersionId=v) == ("AccessDenied", 403)
assert fails(s3.delete_object, Bucket=B, Key="held", VersionId=v, BypassGovernanceRetention=True) == ("AccessDenied", 403)
r = s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "held", "VersionId": v}]})
assert r["Errors"][0]["Code"] == "AccessDenied" and r["Errors"][0]["VersionId"] == v
assert swift("DELETE", f"/{B}/held?version-id={v}") == 403
assert swift("POST", f"/{B}/held", X_Delete_After="1") == 403
# A delete marker ends nothing, and neither does what is written over it.
m = s3.delete_object(Bucket=B, Key="held")["VersionId"]
s3.put_object(Bucket=B, Key="held", Body=b"over")
assert s3.get_object(Bucket=B, Key="held", VersionId=v)["Body"].read() == b"kept"
assert fails(s3.delete_object, Bucket=B, Key="held", VersionId=v) == ("AccessDenied", 403)
assert fails(s3.delete_bucket, Bucket=B) == ("BucketNotEmpty", 409)
s3.put_object_legal_hold(Bucket=B, Key="held", VersionId=v, LegalHold={"Status": "OFF"})
assert s3.get_object_legal_hold(Bucket=B, Key="held", VersionId=v)["LegalHold"] == {"Status": "OFF"}
s3.delete_object(Bucket=B, Key="held", VersionId=v)

# A body that is to be kept is known to have come whole.
unsummed = boto3.client("s3", config=Config(s3={"addressing_style": "path", "payload_signing_enabled": False}, request_checksum_calculation="when_required"))
assert fails(unsummed.put_object, Bucket=B, Key="sum", Body=b"", ObjectLockLegalHoldStatus="ON")[0] == "InvalidRequest"

# Retention.
v = s3.put_object(Bucket=B, Key="g", Body=b"x")["VersionId"]
assert fails(s3.get_object_retention, Bucket=B, Key="g") == ("NoSuchObjectLockConfiguration", 404)
past = {"Mode": "GOVERNANCE", "RetainUntilDate": now - datetime.timedelta(days=1)}
assert fails(s3.put_object_retention, Bucket=B, Key="g", Retention=past) == ("InvalidArgument", 400)
assert fails(s3.put_object_retention, Bucket=B, Key="g", Retention={"Mode": "x", "RetainUntilDate": later}) == ("MalformedXML", 400)
s3.put_object_retention(Bucket=B, Key="g", Retention=retention)
assert s3.get_object_retention(Bucket=B, Key="g")["Retention"] == retention
h = s3.head_object(Bucket=B, Key="g", VersionId=v)
assert h["ObjectLockMode"] == "GOVERNANCE" and h["ObjectLockRetainUntilDate"] == later
assert fails(s3.delete_object, Bucket=B, Key="g", VersionId=v) == ("AccessDenied", 403)
sooner = {"Mode": "GOVERNANCE", "RetainUntilDate": later - datetime.timedelta(hours=1)}
assert fails(s3.put_object_retention, Bucket=B, Key="g", Retention=sooner) == ("AccessDenied", 403)
other = {"Mode": "COMPLIANCE", "RetainUntilDate": later}
assert fails(s3.put_object_retention, Bucket=B, Key="g", Retention=other) == ("AccessDenied", 403)
s3.put_object_retention(Bucket=B, Key="g", Retention=sooner, BypassGovernanceRetention=True)
s3.put_object_retention(Bucket=B, Key="g", Retention=retention)
s3.delete_object(Bucket=B, Key="g", VersionId=v, BypassGovernanceRetention=True)
assert fails(s3.head_object, Bucket=B, Key="g", VersionId=v)[1] == 404

# Compliance is nobody's to break.
soon = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=8)).replace(microsecond=0)
c = s3.put_object(Bucket=B, Key="c", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=soon)["VersionId"]
for bypass in (False, True):
    assert fails(s3.delete_object, Bucket=B, Key="c", VersionId=c, BypassGovernanceRetention=bypass) == ("AccessDenied", 403)
    assert fails(s3.put_object_retention, Bucket=B, Key="c", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": later}, BypassGovernanceRetention=bypass) == ("AccessDenied", 403)
assert fails(s3.put_object, Bucket=B, Key="c", Body=b"", ObjectLockMode="COMPLIANCE") == ("InvalidArgument", 400)
assert fails(s3.put_object, Bucket=B, Key="c", Body=b"", ObjectLockMode="x", ObjectLockRetainUntilDate=later) == ("InvalidArgument", 400)

# What a bucket says counts for what says nothing of its own, uploads in parts too.
s3.put_object_lock_configuration(Bucket=B, ObjectLockConfiguration=rule(Mode="GOVERNANCE", Days=2))
assert s3.get_object_lock_configuration(Bucket=B)["ObjectLockConfiguration"] == rule(Mode="GOVERNANCE", Days=2)
d = s3.put_object(Bucket=B, Key="d", Body=b"x")["VersionId"]
up = s3.create_multipart_upload(Bucket=B, Key="d")["UploadId"]
part = s3.upload_part(Bucket=B, Key="d", UploadId=up, PartNumber=1, Body=b"y")
p = s3.complete_multipart_upload(Bucket=B, Key="d", UploadId=up, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})["VersionId"]
for i in (d, p):
    r = s3.get_object_retention(Bucket=B, Key="d", VersionId=i)["Retention"]
    days = (r["RetainUntilDate"] - now).total_seconds() / 86400
    assert r["Mode"] == "GOVERNANCE" and 1.99 < days < 2.01, r
    assert fails(s3.delete_object, Bucket=B, Key="d", VersionId=i) == ("AccessDenied", 403)
s3.put_object_lock_configuration(Bucket=B, ObjectLockConfiguration=enabled)

# In the end everything can go.
while (left := (soon - datetime.datetime.now(datetime.timezone.utc)).total_seconds()) > 0:
    import time; time.sleep(left)
r = s3.list_object_versions(Bucket=B)
for x in r["Versions"] + r.get("DeleteMarkers", []):
    s3.delete_object(Bucket=B, Key=x["Key"], VersionId=x["VersionId"], BypassGovernanceRetention=True)
s3.delete_bucket(Bucket=B)
print("lock ok")
