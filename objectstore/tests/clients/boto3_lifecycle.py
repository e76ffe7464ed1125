"""boto3 on lifecycle: configurations come back as they were put, what makes no sense is refused, and a day (one
second here) later things are gone."""
import datetime, time
import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
B = "life"


def put(*rules):
    try:
        return s3.put_bucket_lifecycle_configuration(Bucket=B, LifecycleConfiguration={"Rules": list(rules)})
    except ClientError as e:
        return e.response["Error"]["Code"]


def until(what):
    """Waits for what the sweep does in its own time."""
    end = time.monotonic() + 40
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


s3.create_bucket(Bucket=B)
try:
    s3.get_bucket_lifecycle_configuration(Bucket=B)
    raise AssertionError
except ClientError as e:
    assert e.response["Error"]["Code"] == "NoSuchLifecycleConfiguration"
on = lambda **kw: {"Status": "Enabled", "Filter": {"Prefix": ""}} | kw
assert put(on()) == "InvalidRequest"
assert put(on(Expiration={"Days": 0})) == "InvalidArgument"
assert put(on(Expiration={"Days": 1}, ID="x" * 256)) == "InvalidArgument"
assert put(on(Expiration={"Days": 1}, ID="a"), on(Expiration={"Days": 1}, ID="a")) == "InvalidArgument"
assert put(on(Expiration={"Days": 1}, Status="enabled")) == "MalformedXML"
assert put(on(Transitions=[{"Days": 1, "StorageClass": "DEEP_ARCHIVE"}])) == "InvalidArgument"
assert put(on(Transitions=[{"Days": 3, "StorageClass": "GLACIER"}], Expiration={"Days": 3})) == "InvalidArgument"
assert put(on(Expiration={"ExpiredObjectDeleteMarker": True}, Filter={"Tag": {"Key": "a", "Value": "b"}})) == "InvalidRequest"
date = datetime.datetime(2130, 1, 1, tzinfo=datetime.timezone.utc)
rules = [
    {"ID": "one two", "Status": "Enabled", "Filter": {"Prefix": "a/"}, "Expiration": {"Date": date}},
    {"ID": "2", "Status": "Disabled", "Filter": {"And": {"Prefix": "b", "Tags": [{"Key": "k", "Value": "v"}, {"Key": "l", "Value": ""}],
     "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 500}}, "Expiration": {"Days": 7}},
    {"ID": "3", "Status": "Enabled", "Filter": {"Tag": {"Key": "k", "Value": "v"}},
     "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 3}},
    {"ID": "5", "Status": "Enabled", "Filter": {"Prefix": "cold"}, "Transitions": [{"Days": 5, "StorageClass": "GLACIER"}],
     "NoncurrentVersionTransitions": [{"NoncurrentDays": 2, "StorageClass": "GLACIER", "NewerNoncurrentVersions": 1}]},
    {"ID": "4", "Status": "Enabled", "Prefix": "old", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 9}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
]
assert put(*rules)["ResponseMetadata"]["HTTPStatusCode"] == 200
assert s3.get_bucket_lifecycle_configuration(Bucket=B)["Rules"] == rules
r = s3.put_object(Bucket=B, Key="a/1", Body=b"")
assert r["Expiration"] == 'expiry-date="Sun, 01 Jan 2130 00:00:00 GMT", rule-id="one%20two"', r["Expiration"]
assert s3.head_object(Bucket=B, Key="a/1")["Expiration"] == r["Expiration"]
s3.put_object(Bucket=B, Key="z", Body=b"")
assert "Expiration" not in s3.get_object(Bucket=B, Key="z")
up = s3.create_multipart_upload(Bucket=B, Key="old/x")
assert up["AbortRuleId"] == "4" and up["AbortDate"]

# Carried out. A day is a second.
s3.delete_bucket_lifecycle(Bucket=B)
s3.put_object(Bucket=B, Key="tagged", Body=b"", Tagging="k=v")
assert put({"ID": "go", "Status": "Enabled", "Filter": {"Tag": {"Key": "k", "Value": "v"}}, "Expiration": {"Days": 1}},
           {"ID": "up", "Status": "Enabled", "Filter": {"Prefix": "old"}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}})
until(lambda: "tagged" not in [o["Key"] for o in s3.list_objects_v2(Bucket=B)["Contents"]])
assert [o["Key"] for o in s3.list_objects_v2(Bucket=B)["Contents"]] == ["a/1", "z"]
until(lambda: "Uploads" not in s3.list_multipart_uploads(Bucket=B))
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
for n in range(3):
    s3.put_object(Bucket=B, Key="z", Body=b"%d" % n)
assert put(on(ID="old ones", NoncurrentVersionExpiration={"NoncurrentDays": 1}))
until(lambda: len(s3.list_object_versions(Bucket=B)["Versions"]) == 2)
assert s3.get_object(Bucket=B, Key="z")["Body"].read() == b"2"
assert put(on(ID="all", NoncurrentVersionExpiration={"NoncurrentDays": 1}, Expiration={"Days": 1}))
until(lambda: not (r := s3.list_object_versions(Bucket=B)).get("Versions") and not r.get("DeleteMarkers"))
s3.delete_bucket(Bucket=B)

# What `Days` is about is the latest version: it gets a marker, and what lies below one already stays.
B = "lives"
s3.create_bucket(Bucket=B)
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
for key in ("days/live", "days/dead", "few", "date/past", "date/later", "days/nothing"):
    s3.put_object(Bucket=B, Key=key, Body=key.encode())
s3.delete_object(Bucket=B, Key="days/dead")
alone = s3.list_object_versions(Bucket=B, Prefix="days/nothing")["Versions"][0]["VersionId"]
s3.delete_object(Bucket=B, Key="days/nothing")
s3.delete_object(Bucket=B, Key="days/nothing", VersionId=alone)
few = [s3.put_object(Bucket=B, Key="few", Body=b"%d" % n)["VersionId"] for n in range(9)]
assert put(on(ID="days", Filter={"Prefix": "days/"}, Expiration={"Days": 1}),
           on(ID="past", Filter={"Prefix": "date/past"}, Expiration={"Date": "2015-01-01"}),
           on(ID="later", Filter={"Prefix": "date/later"}, Expiration={"Date": "2130-01-01"}),
           on(ID="few", Filter={"Prefix": "few"}, NoncurrentVersionExpiration={"NoncurrentDays": 1, "NewerNoncurrentVersions": 3}))["ResponseMetadata"]["HTTPStatusCode"] == 200
shown = lambda: [o["Key"] for o in s3.list_objects_v2(Bucket=B)["Contents"]]
there = lambda prefix: [[v["VersionId"] for v in s3.list_object_versions(Bucket=B, Prefix=prefix).get(what, [])] for what in ("Versions", "DeleteMarkers")]
until(lambda: shown() == ["date/later", "few"])
until(lambda: there("few") == [few[:-5:-1], []])
# A marker below which nothing is left goes too; any other stays.
until(lambda: there("days/nothing") == [[], []])
assert [len(ids) for ids in there("days/dead") + there("days/live") + there("date/past")] == [1] * 6
print("lifecycle ok")
