"""boto3 on who pays and who is logged: request payment, and access logs that arrive in another bucket."""
import os, re, time, urllib.error, urllib.request
import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

cfg = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, user_agent_extra='a "quoted" agent')
own = boto3.client("s3", config=cfg)
other = boto3.client("s3", aws_access_key_id="KEY-q", aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"], config=cfg)


def code(call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"]


B = "paying"
own.create_bucket(Bucket=B)
own.put_bucket_acl(Bucket=B, ACL="public-read")
own.put_object(Bucket=B, Key="a b", Body=b"12345", ACL="public-read")
assert own.get_bucket_request_payment(Bucket=B)["Payer"] == "BucketOwner"
assert "RequestCharged" not in other.get_object(Bucket=B, Key="a b", RequestPayer="requester")
own.put_bucket_request_payment(Bucket=B, RequestPaymentConfiguration={"Payer": "Requester"})
assert own.get_bucket_request_payment(Bucket=B)["Payer"] == "Requester"
assert code(other.get_object, Bucket=B, Key="a b") == "AccessDenied"
assert code(other.list_objects_v2, Bucket=B) == "AccessDenied"
r = other.get_object(Bucket=B, Key="a b", RequestPayer="requester")
assert r["Body"].read() == b"12345" and r["RequestCharged"] == "requester"
assert other.list_objects_v2(Bucket=B, RequestPayer="requester")["KeyCount"] == 1
assert "RequestCharged" not in own.get_object(Bucket=B, Key="a b")
url = other.generate_presigned_url("get_object", Params={"Bucket": B, "Key": "a b", "RequestPayer": "requester"})
assert urllib.request.urlopen(urllib.request.Request(url, headers={"x-amz-request-payer": "requester"})).read() == b"12345"
try:
    urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + f"/{B}/a%20b")
    raise AssertionError("nobody does not pay")
except urllib.error.HTTPError as e:
    assert e.code == 403
own.put_bucket_request_payment(Bucket=B, RequestPaymentConfiguration={"Payer": "BucketOwner"})

# Access logs.
own.create_bucket(Bucket="logs")
other.create_bucket(Bucket="others-logs")
assert "LoggingEnabled" not in own.get_bucket_logging(Bucket=B)
log = {"TargetBucket": "logs", "TargetPrefix": "acc/"}
put = lambda **kw: own.put_bucket_logging(Bucket=B, BucketLoggingStatus={"LoggingEnabled": log | kw})
assert code(put, TargetBucket="others-logs") == "InvalidTargetBucketForLogging"
to_q = [{"Grantee": {"Type": "CanonicalUser", "ID": "q", "DisplayName": "q"}, "Permission": "READ"}]
put(TargetGrants=to_q)
assert own.get_bucket_logging(Bucket=B)["LoggingEnabled"] == log | {"TargetGrants": to_q, "TargetObjectKeyFormat": {"SimplePrefix": {}}}
other.get_object(Bucket=B, Key="a b")
assert code(own.get_object, Bucket=B, Key="none") == "NoSuchKey"
own.put_object(Bucket=B, Key="new", Body=b"x")
own.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "new"}]})
own.get_bucket_acl(Bucket=B)
want = ["REST.GET.OBJECT", "REST.GET.OBJECT", "REST.PUT.OBJECT", "REST.POST.MULTI_OBJECT_DELETE", "REST.GET.ACL"]
line = re.compile(r'(\S+) (\S+) \[([^]]+)\] (\S+) (\S+) (\S+) (\S+) (\S+) ("[^"]*"|-) (\S+) (\S+) (\S+) (\S+) (\S+) (\S+) ("[^"]*"|-) ("[^"]*"|-) (\S+) (\S+) (\S+) (\S+) (\S+) (\S+) (\S+) (\S+) (\S+)$')
end = time.monotonic() + 30
while True:
    keys = [o["Key"] for o in own.list_objects_v2(Bucket="logs").get("Contents", [])]
    text = "".join(own.get_object(Bucket="logs", Key=k)["Body"].read().decode() for k in keys)
    lines = [line.match(l).groups() for l in text.splitlines()]
    if set(want) <= {l[6] for l in lines} and len(lines) >= len(want):
        break
    assert time.monotonic() < end, text
    time.sleep(0.2)
assert other.get_object(Bucket="logs", Key=keys[0])["Body"].read() and code(other.list_objects_v2, Bucket="logs") == "AccessDenied"
assert all(re.fullmatch(r"acc/\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d-[0-9A-F]{16}", k) for k in keys), keys
assert all(l[0] == "p" and l[1] == B and l[3] == "127.0.0.1" and l[19] == "SigV4" for l in lines), lines
got, missed = [l for l in lines if l[6] == "REST.GET.OBJECT"]
assert got[4] == "q" and got[7] == "a%20b" and got[9:12] == ("200", "-", "5"), got
assert missed[4] == "p" and missed[9:11] == ("404", "NoSuchKey"), missed
own.put_bucket_logging(Bucket=B, BucketLoggingStatus={})
assert "LoggingEnabled" not in own.get_bucket_logging(Bucket=B)
assert code(own.put_bucket_accelerate_configuration, Bucket=B, AccelerateConfiguration={"Status": "Enabled"}) == "NotImplemented"
assert "Status" not in own.get_bucket_accelerate_configuration(Bucket=B)
assert own.get_bucket_location(Bucket=B)["LocationConstraint"] == "RegionOne"
print("paying ok")
