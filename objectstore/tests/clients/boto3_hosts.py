"""Buckets in host names, as boto3 asks for them by default."""
import os, socket, urllib.parse, urllib.request, boto3
from botocore.client import Config
from botocore.exceptions import ClientError

port = urllib.parse.urlparse(os.environ["AWS_ENDPOINT_URL"]).port
looked_up, plain = [], socket.getaddrinfo


def lookup(host, *args, **kw):
    looked_up.append(host)
    return plain("127.0.0.1" if str(host).endswith("s3.example") else host, *args, **kw)


socket.getaddrinfo = lookup


def client(version):
    config = Config(signature_version=version, s3={"addressing_style": "virtual"})
    return boto3.client("s3", endpoint_url=f"http://s3.example:{port}", config=config)


def code(f, **kw):
    try:
        f(**kw)
    except ClientError as e:
        return e.response["Error"]["Code"]


for version in ("s3v4", "s3"):
    s3, bucket = client(version), f"by.name-{version}"
    B = {"Bucket": bucket}
    s3.create_bucket(**B)
    assert f"{bucket}.s3.example" in looked_up, looked_up
    key = "a folder/" + bucket + "/ü+%2F"
    s3.put_object(**B, Key=key, Body=b"content", ContentType="text/plain")
    assert s3.get_object(**B, Key=key)["Body"].read() == b"content"
    assert [o["Key"] for o in s3.list_objects_v2(**B)["Contents"]] == [key]
    assert [o["Key"] for o in s3.list_objects(**B, Prefix="a folder/")["Contents"]] == [key]
    s3.copy_object(**B, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    upload = s3.create_multipart_upload(**B, Key="parts")["UploadId"]
    part = s3.upload_part(**B, Key="parts", UploadId=upload, PartNumber=1, Body=b"part")
    s3.complete_multipart_upload(**B, Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    s3.put_bucket_versioning(**B, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(**B)["Status"] == "Enabled"
    # Signed for one host, a URL is of no use at another.
    url = s3.generate_presigned_url("get_object", Params={**B, "Key": key, "ResponseContentType": "text/x"})
    assert urllib.parse.urlparse(url).hostname == f"{bucket}.s3.example", url
    with urllib.request.urlopen(url) as answer:
        assert (answer.read(), answer.headers["content-type"]) == (b"content", "text/x")
    if version == "s3v4":
        try:
            urllib.request.urlopen(url.replace(bucket + ".s3", "other.s3"))
            raise AssertionError("another bucket's host")
        except urllib.error.HTTPError as e:
            assert e.code == 403, e
    # The listing of all buckets is at the host without one; a key may look like a bucket.
    assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    s3.put_object(**B, Key=f"{bucket}/x", Body=b"")
    assert s3.head_object(**B, Key=f"{bucket}/x")["ContentLength"] == 0
    assert code(s3.head_bucket, Bucket="nobodys") == "404"
    assert code(s3.get_object, **B, Key="nothing") == "NoSuchKey"
