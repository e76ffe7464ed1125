# rclone, through both doors, and from one to the other.
set -eux
export RCLONE_CONFIG=$PWD/rclone.conf
cat >rclone.conf <<C
[s3]
type = s3
provider = Other
access_key_id = $AWS_ACCESS_KEY_ID
secret_access_key = $AWS_SECRET_ACCESS_KEY
endpoint = http://$S3_HOST
region = RegionOne
[swift]
type = swift
storage_url = $SWIFT_URL
auth_token = p:member
auth = $SWIFT_ROOT/v3
C
mkdir -p src/sub; head -c 12000000 /dev/urandom >src/big; for i in $(seq 20); do echo "$i" >"src/sub/f $i ü"; done; : >src/empty
rclone copy --s3-upload-cutoff 5M --s3-chunk-size 5M src s3:rcb
rclone check src s3:rcb
rclone copy s3:rcb back && diff -r src back
rclone lsd s3:rcb | grep -q sub
rclone sync src swift:rcs
rclone check src swift:rcs
rclone copy swift:rcs back2 && diff -r src back2
rclone check swift:rcs s3:rcs
rclone moveto s3:rcb/big s3:rcb/big2
rclone cat s3:rcb/big2 | cmp - src/big
rclone size swift:rcs
rclone purge s3:rcb
rclone purge swift:rcs
[ -z "$(rclone lsd s3:)" ]
