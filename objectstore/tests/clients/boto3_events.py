"""boto3 on event notifications: topics over SNS, a bucket's configuration, and the events that a web hook gets."""
import http.server, json, threading, time, urllib.parse, urllib.request, os
import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}))
sns = boto3.client("sns", config=Config(retries={"max_attempts": 1}))
B = "events"


def code(call, **kw):
    try:
        call(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"]


told = []


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *a):
        pass


hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=hook.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{hook.server_port}/hook"

arn = sns.create_topic(Name="mine", Attributes={"push-endpoint": url, "OpaqueData": "opaque"})["TopicArn"]
assert arn == "arn:aws:sns:RegionOne:p:mine", arn
assert sns.create_topic(Name="mine", Attributes={"push-endpoint": url, "OpaqueData": "opaque"})["TopicArn"] == arn
gone = sns.create_topic(Name="gone")["TopicArn"]
assert sorted(t["TopicArn"] for t in sns.list_topics()["Topics"]) == [gone, arn]
sns.set_topic_attributes(TopicArn=gone, AttributeName="OpaqueData", AttributeValue="x & <y>")
assert sns.get_topic_attributes(TopicArn=gone)["Attributes"]["OpaqueData"] == "x & <y>"
assert json.loads(sns.get_topic_attributes(TopicArn=arn)["Attributes"]["EndPoint"])["EndpointAddress"] == url
sns.delete_topic(TopicArn=gone)
sns.delete_topic(TopicArn=gone)
assert code(sns.get_topic_attributes, TopicArn=gone) == "NotFound"
assert code(sns.create_topic, Name="b", Attributes={"push-endpoint": "amqp://x"}) == "InvalidParameter"
assert code(sns.publish, TopicArn=arn, Message="x") == "InvalidAction"
bad = boto3.client("sns", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="wrong", config=Config(retries={"max_attempts": 1}))
assert code(bad.list_topics) == "SignatureDoesNotMatch"
other = boto3.client("sns", aws_access_key_id="KEY-q", aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"], config=Config(retries={"max_attempts": 1}))
assert other.list_topics()["Topics"] == []
assert code(other.get_topic_attributes, TopicArn=arn) == "AuthorizationError"

s3.create_bucket(Bucket=B)
assert "TopicConfigurations" not in s3.get_bucket_notification_configuration(Bucket=B)


def put(*wishes):
    return s3.put_bucket_notification_configuration(Bucket=B, NotificationConfiguration={"TopicConfigurations": list(wishes)})


wish = lambda id, *events, **f: {"Id": id, "TopicArn": f.get("arn", arn), "Events": list(events)} | (
    {"Filter": {"Key": {"FilterRules": f["rules"]}}} if "rules" in f else {})
assert code(lambda: put(wish("a", "s3:ObjectRestore:*"))) == "InvalidArgument"
assert code(lambda: put(wish("a", "s3:ObjectCreated:*", arn=gone))) == "InvalidArgument"
wishes = [wish("images", "s3:ObjectCreated:*", rules=[{"Name": "Prefix", "Value": "img/"}, {"Name": "Suffix", "Value": ".jpg"}]),
          wish("removed", "s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated"),
          wish("tags", "s3:ObjectTagging:*", "s3:ObjectAcl:Put")]
put(*wishes)
assert s3.get_bucket_notification_configuration(Bucket=B)["TopicConfigurations"] == wishes


def expect(*want):
    """Waits for these events and no others."""
    end = time.monotonic() + 30
    while len(told) < len(want):
        assert time.monotonic() < end, (told, want)
        time.sleep(0.05)
    got = sorted((r["eventName"], r["s3"]["configurationId"], urllib.parse.unquote_plus(r["s3"]["object"]["key"])) for t in told for r in t["Records"])
    assert got == sorted(want), got
    records = [t["Records"][0] for t in told]
    told.clear()
    return records


etag = s3.put_object(Bucket=B, Key="img/a b+ü.jpg", Body=b"12345")["ETag"].strip('"')
s3.put_object(Bucket=B, Key="img/a.png", Body=b"1")
[r] = expect(("ObjectCreated:Put", "images", "img/a b+ü.jpg"))
assert r["eventVersion"] == "2.2" and r["eventSource"] == "aws:s3" and r["awsRegion"] == "RegionOne" and r["opaqueData"] == "opaque"
assert r["s3"]["bucket"] == {"name": B, "ownerIdentity": {"principalId": "p"}, "arn": f"arn:aws:s3:::{B}"}
assert r["s3"]["object"]["size"] == 5 and r["s3"]["object"]["eTag"] == etag and r["userIdentity"] == {"principalId": "p"}
assert r["requestParameters"]["sourceIPAddress"] == "127.0.0.1"
s3.copy_object(Bucket=B, Key="img/c.jpg", CopySource={"Bucket": B, "Key": "img/a.png"})
up = s3.create_multipart_upload(Bucket=B, Key="img/m.jpg")["UploadId"]
part = s3.upload_part(Bucket=B, Key="img/m.jpg", UploadId=up, PartNumber=1, Body=b"x")["ETag"]
s3.complete_multipart_upload(Bucket=B, Key="img/m.jpg", UploadId=up, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
form = s3.generate_presigned_post(B, "img/f.jpg")
crlf = b"\r\n"
body = b"".join(b'--B\r\ncontent-disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (k.encode(), v.encode()) for k, v in form["fields"].items())
body += b'--B\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--B--\r\n'
urllib.request.urlopen(urllib.request.Request(form["url"], body, {"content-type": "multipart/form-data; boundary=B"}))
s3.put_object_tagging(Bucket=B, Key="img/c.jpg", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
s3.delete_object_tagging(Bucket=B, Key="img/c.jpg")
s3.put_object_acl(Bucket=B, Key="img/c.jpg", ACL="public-read")
expect(("ObjectCreated:Copy", "images", "img/c.jpg"), ("ObjectCreated:CompleteMultipartUpload", "images", "img/m.jpg"),
       ("ObjectCreated:Post", "images", "img/f.jpg"), ("ObjectTagging:Put", "tags", "img/c.jpg"),
       ("ObjectTagging:Delete", "tags", "img/c.jpg"), ("ObjectAcl:Put", "tags", "img/c.jpg"))
s3.delete_object(Bucket=B, Key="img/m.jpg")
s3.delete_object(Bucket=B, Key="never there")
s3.delete_objects(Bucket=B, Delete={"Objects": [{"Key": "img/c.jpg"}, {"Key": "img/f.jpg"}]})
records = expect(*[("ObjectRemoved:Delete", "removed", f"img/{n}.jpg") for n in "mcf"])
assert "size" not in records[0]["s3"]["object"] and "versionId" not in records[0]["s3"]["object"]

# The other door tells too, and versions have their ids.
s3.put_bucket_versioning(Bucket=B, VersioningConfiguration={"Status": "Enabled"})
req = urllib.request.Request(os.environ["SWIFT_URL"] + f"/{B}/img/s.jpg", b"x", {"x-auth-token": "p:member"}, method="PUT")
urllib.request.urlopen(req)
[r] = expect(("ObjectCreated:Put", "images", "img/s.jpg"))
version = s3.head_object(Bucket=B, Key="img/s.jpg")["VersionId"]
assert r["s3"]["object"]["versionId"] == version
marker = s3.delete_object(Bucket=B, Key="img/s.jpg")["VersionId"]
[r] = expect(("ObjectRemoved:DeleteMarkerCreated", "removed", "img/s.jpg"))
assert r["s3"]["object"]["versionId"] == marker
s3.delete_object(Bucket=B, Key="img/s.jpg", VersionId=marker)
[r] = expect(("ObjectRemoved:Delete", "removed", "img/s.jpg"))
assert r["s3"]["object"]["versionId"] == marker

# What the lifecycle does (a day is a second here).
put(wish("life", "s3:LifecycleExpiration:*", "s3:LifecycleTransition"))
s3.put_object(Bucket=B, Key="old", Body=b"x")
s3.put_object(Bucket=B, Key="cold", Body=b"x")
s3.put_bucket_lifecycle_configuration(Bucket=B, TransitionDefaultMinimumObjectSize="varies_by_storage_class", LifecycleConfiguration={"Rules": [
    {"ID": "1", "Status": "Enabled", "Filter": {"Prefix": "old"}, "Expiration": {"Days": 1}},
    {"ID": "2", "Status": "Enabled", "Filter": {"Prefix": "cold"}, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}]})
expect(("LifecycleExpiration:DeleteMarkerCreated", "life", "old"), ("LifecycleTransition", "life", "cold"))
put()
assert "TopicConfigurations" not in s3.get_bucket_notification_configuration(Bucket=B)
s3.put_object(Bucket=B, Key="img/q.jpg", Body=b"x")
time.sleep(1.5)
assert not told
print("events ok")
