# s3fs: a bucket as a file system, with real files.
set -euo pipefail
umask 077
printf '%s:%s' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >key
python3 - <<END
import boto3
from botocore.client import Config
boto3.client("s3", config=Config(s3={"addressing_style": "path"})).create_bucket(Bucket="files")
END
mkdir mnt
at=(-o passwd_file=key -o url="$AWS_ENDPOINT_URL" -o use_path_request_style -o endpoint="$AWS_DEFAULT_REGION"
  -o multipart_size=5 -o enable_noobj_cache)
s3fs files mnt "${at[@]}"
trap 'fusermount -u mnt 2>/dev/null || umount -l mnt' EXIT
mkdir mnt/dir
head -c 12M /dev/urandom >large
cp large mnt/dir/large
printf 'one\n' >"mnt/dir/a file ü"
printf 'two\n' >>"mnt/dir/a file ü"
mv "mnt/dir/a file ü" mnt/moved
chmod 640 mnt/moved
[ "$(stat -c %a mnt/moved)" = 640 ]
ln -s moved mnt/link
umount mnt
# Another mount finds what the first one wrote.
s3fs files mnt "${at[@]}"
cmp large mnt/dir/large
[ "$(cat mnt/link)" = "$(printf 'one\ntwo')" ]
[ "$(ls mnt | tr '\n' ,)" = dir,link,moved, ]
printf X | dd of=mnt/dir/large bs=1 seek=6000000 conv=notrunc status=none
printf X | dd of=large bs=1 seek=6000000 conv=notrunc status=none
cmp large mnt/dir/large
truncate -s 100 mnt/dir/large
[ "$(stat -c %s mnt/dir/large)" = 100 ]
rm -r mnt/dir mnt/link mnt/moved
[ -z "$(ls mnt)" ]
echo "s3fs ok"
